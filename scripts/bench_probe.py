#!/usr/bin/env python3
"""Logistic regression beside scikit-learn's SAGA: time to the same objective.

    python scripts/bench_probe.py data DIR     # features and labels like those of real embeddings, from a seed
    cargo run --release --example probe_speed -- DIR/x.npy DIR/y.npy DIR/ours.json
    python scripts/bench_probe.py sklearn DIR [TASK]  # one task of the same work

Versions: numpy 2.4.6, scikit-learn 1.9.1.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression


def make(folder, n=10_000, d=1152, tasks=13, seed=0):
    """Standardised features of low effective rank: a spectrum that falls as 1/k, correlated columns, a few heavy tails."""
    r = np.random.default_rng(seed)
    spectrum = 1 / np.arange(1, d + 1) ** 0.5
    basis, _ = np.linalg.qr(r.normal(size=(d, d)))
    latent = r.standard_t(8, size=(n, d)) * spectrum
    x = latent @ basis.T + 0.02 * r.normal(size=(n, d)) + r.normal(size=d)
    x = (x - x.mean(0)) / x.std(0)
    w = r.normal(size=(d, tasks)) * spectrum[:, None] ** 0.5
    score = latent @ w
    score = score / score.std(0) * 1.5 + r.logistic(size=(n, tasks))
    prevalence = np.geomspace(0.03, 0.4, tasks)
    y = score > np.array([np.quantile(score[:, t], 1 - p) for t, p in enumerate(prevalence)])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x.npy", x.astype(np.float32))
    np.save(folder / "y.npy", y.astype(np.uint8))


def objective(x, y, coef, intercept, c):
    scores = x.astype(np.float64) @ coef.ravel().astype(np.float64) + float(intercept[0])
    losses = np.logaddexp(0, np.where(y == 1, -scores, scores))
    return c * losses.sum() + (coef.astype(np.float64) ** 2).sum() / 2


def sklearn_part(folder, task=6, share=1e-4, most_seconds=60.0):
    """One task at each C: the CPU time of SAGA with so many passes that its objective is within `share` of the optimum.

    Passes are doubled from 8 on, and only the last run is counted. Where a run takes longer than `most_seconds`, that is a lower
    bound of its time, and the share that it has come to is shown. All tasks on two processes cannot take less than
    (tasks / 2) times the sum.
    """
    warnings.simplefilter("ignore", ConvergenceWarning)
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    ours = json.loads((folder / "ours.json").read_text())
    total = 0.0
    for fit in ours["fits"][task]:
        passes = 8
        while True:
            start = time.process_time()
            model = LogisticRegression(C=fit["c"], solver="saga", tol=0.0, max_iter=passes, random_state=0)
            model.fit(x, y[:, task])
            seconds = time.process_time() - start
            above = objective(x, y[:, task], model.coef_, model.intercept_, fit["c"]) / fit["objective"] - 1
            if above < share or seconds > most_seconds:
                break
            passes *= 2
        total += seconds
        bound = "" if above < share else ", NOT REACHED"
        print(f"C {fit['c']:.1e}: {passes} passes, {seconds:.1f} s CPU, objective {above:+.1e} from ours{bound}", flush=True)
    tasks = y.shape[1]
    print(f"one task {total:.1f} s CPU; {tasks} tasks on two cores at least {total * tasks / 2:.0f} s; ours {ours['seconds']:.1f} s")


if __name__ == "__main__":
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if kind == "data":
        make(folder)
    else:
        sklearn_part(folder, *(int(a) for a in sys.argv[3:4]))
