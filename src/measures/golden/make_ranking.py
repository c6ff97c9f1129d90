"""Makes ranking.json: rankings, what is relevant to them, and what PyPI ranx 0.3 says of them.

    pip install ranx && python make_ranking.py > ranking.json

Scores never tie: the order of ties is nobody's to define. ranx takes no question without judgements; there the measures are 0 by definition.
"""
import json, random
from ranx import Qrels, Run, evaluate

CUTS = [1, 3, 5, 10, 100]
NAMES = ["ndcg", "recall", "mrr", "hit_rate", "map"]
rng, cases = random.Random(20261124), []
for number in range(60):
    catalogue = [f"i{n}" for n in range(rng.choice([6, 30, 150]))]
    length = rng.choice([1, 2, 7, 40, 120])
    ranked = rng.sample(catalogue, min(length, len(catalogue)))
    relevant = rng.sample(catalogue, min(rng.choice([1, 1, 2, 5, 20]), len(catalogue)))
    graded = number % 2 == 0
    gains = {item: rng.randint(1, 4) if graded else 1 for item in relevant}
    if number % 10 == 9:
        gains = {}
    if gains:
        qrels, run = Qrels({"q": gains}), Run({"q": {item: 1.0 - place / 1000 for place, item in enumerate(ranked)}})
        found = {f"{name}@{k}": float(evaluate(qrels, run, f"{name}@{k}")) for name in NAMES for k in CUTS}
    else:
        found = {f"{name}@{k}": 0.0 for name in NAMES for k in CUTS}
    cases.append({"ranked": ranked, "gains": gains, "measures": found})
print("[" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "]")
