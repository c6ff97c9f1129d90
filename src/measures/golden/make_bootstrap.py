"""Makes bootstrap.json: values by unit, the units that random.Random(7) draws, and the percentile interval of the mean over all values.

    python make_bootstrap.py > bootstrap.json

The way of the project's scorer over HTTP: units (users) are drawn with replacement, the sum of their values over their number; of the sorted
means those at places n * .025 and n * .975, counted from 0 and cut down.
"""
import json, random

make, rng, resamples = random.Random(1), random.Random(7), 200
units = [[round(make.random() ** 3, 4) for _ in range(make.randint(1, 5))] for _ in range(12)]
sums, draws, means = [(sum(unit), len(unit)) for unit in units], [], []
for _ in range(resamples):
    drawn = [rng.randrange(len(sums)) for _ in sums]
    draws += drawn
    means.append(sum(sums[d][0] for d in drawn) / sum(sums[d][1] for d in drawn))
means.sort()
print(json.dumps({"units": units, "resamples": resamples, "draws": draws, "low": means[int(resamples * .025)], "high": means[int(resamples * .975)]}))
