#!/usr/bin/env python3
"""Makes crates/medsiglip/tests/data/golden/probe.json: what scikit-learn's LogisticRegression comes to.

    python scripts/make_probe_golden.py

Versions that made the checked-in file: numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1.

Features are the formula of `features`, which tests/probe.rs repeats in double precision: no feature is stored. Each case is
fitted by one of scikit-learn's own solvers until nothing changes any more: newton-cholesky for l2 and none, liblinear for l1
without intercept, else SAGA.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

OUT = Path(__file__).parent.parent / "crates/medsiglip/tests/data/golden/probe.json"
MASK = (1 << 64) - 1


def uniforms(seed, count):
    """SplitMix64 (Steele, Lea and Flood, 2014), the upper 53 bits: numbers in [0, 1)."""
    out = np.empty(count)
    for i in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out[i] = ((z ^ (z >> 31)) >> 11) / 2.0**53
    return out


def features(n, d, seed):
    """Correlated columns of different scales and means: five factors that fall off, and noise. Also the factors."""
    u = uniforms(seed, n * 5 + 5 * d + n * d + 2 * d)
    cut = np.cumsum([n * 5, 5 * d, n * d, d])
    factors, loadings, noise, scales, means = np.split(u, cut)
    factors = (factors.reshape(n, 5) - 0.5) * np.array([8.0, 4.0, 2.0, 1.0, 0.5])
    x = factors @ (loadings.reshape(5, d) - 0.5) + (noise.reshape(n, d) - 0.5) * 0.5
    scales = 4.0 ** (2 * scales - 1)
    return x * scales + (means - 0.5) * 4 * scales, factors


def labels(factors, classes, seed):
    """Classes by cuts through a mixture of factors and noise: none is separable from the factors."""
    score = factors[:, 1] + 0.5 * factors[:, 0] + (uniforms(seed, len(factors)) - 0.5) * 6
    cuts = np.quantile(score, np.arange(1, classes) / classes) + 0.7
    return np.searchsorted(cuts, score)


def objective(x, y, weight, coef, intercept, case):
    scores = x @ coef.T + intercept
    if coef.shape[0] == 1:
        losses = np.logaddexp(0, np.where(y == 1, -scores[:, 0], scores[:, 0]))
    else:
        losses = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(y)), y]
    c, ratio = (1.0, None) if case["l1_ratio"] is None else (case["c"], case["l1_ratio"])
    l1, l2 = (0.0, 0.0) if ratio is None else (ratio, 1 - ratio)
    return c * (weight * losses).sum() + l1 * np.abs(coef).sum() + l2 * (coef**2).sum() / 2


def total_weight(case, y, weight):
    """Class weights times sample weights, as scikit-learn multiplies them."""
    if case["class_weight"] == "balanced":
        sums = np.bincount(y, weights=weight)
        return weight * (weight.sum() / (len(sums) * sums))[y]
    if case["class_weight"]:
        return weight * np.array(case["class_weight"])[y]
    return weight


def model(case, solver):
    weight = case["class_weight"]
    if isinstance(weight, list):
        weight = dict(enumerate(weight))
    c, ratio = (np.inf, 0.0) if case["l1_ratio"] is None else (case["c"], case["l1_ratio"])
    most = 2_000_000 if solver in ("saga", "liblinear") else 100_000
    return LogisticRegression(
        C=c, l1_ratio=ratio, fit_intercept=case["fit_intercept"], class_weight=weight,
        solver=solver, tol=1e-13 if solver == "saga" else 1e-11, max_iter=most, random_state=0,
    )


def fit(case):
    x, factors = features(case["n"], case["d"], case["seed"])
    y = labels(factors, case["classes"], case["seed"] + 1)
    if case["standardize"]:
        x = StandardScaler().fit_transform(x)
    weight = uniforms(case["seed"] + 2, len(y)) + 0.5 if case["sample_weight"] else np.ones(len(y))
    smooth = case["l1_ratio"] in (None, 0.0)
    solvers = ["newton-cholesky"] if smooth else ["saga"]
    if case["l1_ratio"] == 1.0 and not case["fit_intercept"] and case["classes"] == 2:
        solvers = ["liblinear"]
    best = None
    for solver in solvers:
        one = model(case, solver)
        if case["one_vs_rest"]:
            rest = [one.__class__(**one.get_params()).fit(x, (y == k).astype(int), sample_weight=weight) for k in range(case["classes"])]
            coef, intercept = np.vstack([m.coef_ for m in rest]), np.concatenate([m.intercept_ for m in rest])
            value = sum(
                objective(x, (y == k).astype(int), weight, coef[k : k + 1], intercept[k : k + 1], case) for k in range(case["classes"])
            )
        else:
            one.fit(x, y, sample_weight=weight)
            coef, intercept = one.coef_, one.intercept_
            value = objective(x, y, total_weight(case, y, weight), coef, intercept, case)
        if best is None or value < best[0]:
            best = (value, coef, intercept)
    value, coef, intercept = best
    print(f"{case['name']}: {value:.10g}, {np.count_nonzero(coef)} of {coef.size} not zero", flush=True)
    return {
        **case,
        "labels": "".join(map(str, y)),
        "objective": float(value),
        "coef": [float(f"{w:.9g}") for w in coef.ravel()],
        "intercept": [float(f"{b:.9g}") for b in np.broadcast_to(intercept, (coef.shape[0],))],
    }


def cases():
    base = dict(
        n=240, d=12, seed=100, classes=2, c=1.0, l1_ratio=0.0, fit_intercept=True, class_weight=None,
        sample_weight=False, standardize=False, one_vs_rest=False,
    )
    penalties = {"none": None, "l2": 0.0, "l1": 1.0, "elastic net": 0.4}
    for name, ratio in penalties.items():
        # l1 of an even number of classes has many optima: two may go up while two go down.
        for classes in (2, 3 if ratio == 1.0 else 4):
            yield base | dict(name=f"{name}, {classes} classes", l1_ratio=ratio, classes=classes, c=0.2)
        yield base | dict(name=f"{name}, no intercept", l1_ratio=ratio, fit_intercept=False, c=3.0)
    for classes in (2, 4):
        yield base | dict(name=f"balanced, {classes} classes", classes=classes, class_weight="balanced", sample_weight=True)
    yield base | dict(name="given weights", class_weight=[0.3, 2.0], sample_weight=True, c=0.1)
    yield base | dict(name="given weights, l1", class_weight=[0.3, 2.0], l1_ratio=1.0)
    yield base | dict(name="one against the rest", classes=4, one_vs_rest=True)
    yield base | dict(name="multinomial without intercept", classes=4, fit_intercept=False)
    for c in (1e-4, 1e4):
        yield base | dict(name=f"C = {c:g}", c=c)
        yield base | dict(name=f"C = {c:g}, standardised, 4 classes", c=c, standardize=True, classes=4)
    wide = base | dict(d=1152, n=400, seed=200)
    yield wide | dict(name="wide", c=0.01)
    yield wide | dict(name="wide, C = 100", c=100.0)
    yield wide | dict(name="wide, 3 classes, standardised", classes=3, standardize=True, c=1.0)


def main():
    warnings.simplefilter("error")
    OUT.write_text("[\n" + ",\n".join(json.dumps(fit(case)) for case in cases()) + "\n]\n")
    print(f"{OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
