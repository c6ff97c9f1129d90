"""Implicit ALS of PyPI `implicit`, for tests/bench/als.rs.

Arguments: the file of likes (pairs of u32), actors, items, factors, iterations, confidence, lambda, threads, the file for the factors.
Each line on standard input is a seed: fits, writes the factors (f32, actors then items), prints the seconds.
"""

import sys
import time

import numpy as np
import scipy.sparse as sparse
from implicit.cpu.als import AlternatingLeastSquares

pairs, actors, items, factors, iterations, confidence, lam, threads, out = sys.argv[1:]
pairs = np.fromfile(pairs, dtype=np.uint32).reshape(-1, 2)
likes = sparse.csr_matrix((np.ones(len(pairs), dtype=np.float32), (pairs[:, 0], pairs[:, 1])), shape=(int(actors), int(items)))
print("ready", flush=True)
for seed in sys.stdin:
    model = AlternatingLeastSquares(
        factors=int(factors), iterations=int(iterations), alpha=float(confidence), regularization=float(lam), num_threads=int(threads), random_state=int(seed)
    )
    begun = time.perf_counter()
    model.fit(likes, show_progress=False)
    seconds = time.perf_counter() - begun
    with open(out, "wb") as file:
        np.asarray(model.user_factors, dtype=np.float32).tofile(file)
        np.asarray(model.item_factors, dtype=np.float32).tofile(file)
    print(seconds, flush=True)
