#!/usr/bin/env python3
"""Makes crates/medsiglip/tests/data/golden/metrics.json: measures, tests and calibration by scikit-learn and statsmodels.

    python scripts/make_metrics_golden.py

Versions that made the checked-in file: numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1, statsmodels 0.15.0.

What these libraries lack is written out here in its plainest form: DeLong's structural components pair by pair, ranks by counting,
the bootstrap item by item, Platt's loss and the temperature by a root finder. All data are made up.
"""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
from scipy import optimize, special, stats
from sklearn import calibration, isotonic, metrics
from statsmodels.stats.multitest import multipletests

OUT = Path(__file__).parent.parent / "crates/medsiglip/tests/data/golden/metrics.json"
VERSIONS = {"numpy": "2.4.6", "scipy": "1.17.1", "scikit-learn": "1.9.1", "statsmodels": "0.15.0"}


def make_scores(rng, n, share, step):
    """Labels and scores of 0 to 1, rounded to `step`, so that many are tied; 0 keeps them apart."""
    positive = np.zeros(n, bool)
    positive[: max(2, round(n * share))] = True
    rng.shuffle(positive)
    scores = special.expit(rng.normal(size=n) + 1.2 * positive - 0.5)
    if step:
        scores = np.round(scores / step) * step
    return np.clip(scores, 0, 1), positive


def operating_points(scores, positive):
    """(threshold, true positives, false positives) by counting, from nothing called positive to all."""
    thresholds = [np.inf] + sorted(set(scores), reverse=True)
    return [(t, int((scores[positive] >= t).sum()), int((scores[~positive] >= t).sum())) for t in thresholds]


def cut(scores, positive):
    p, n = int(positive.sum()), int((~positive).sum())
    points = operating_points(scores, positive)
    as_rates = lambda point: [None if np.isinf(point[0]) else point[0], point[1] / p, (n - point[2]) / n]
    youden = max(points, key=lambda point: point[1] * n - point[2] * p)
    levels = [0.0, 0.5, 0.8, 0.9, 0.95, 1.0]
    at_specificity = [max((q for q in points if (n - q[2]) / n >= s), key=lambda q: (q[1], -q[2])) for s in levels]
    at_sensitivity = [min((q for q in points if q[1] / p >= s), key=lambda q: q[2]) for s in levels]
    return {
        "levels": levels,
        "youden": as_rates(youden),
        "at_specificity": [as_rates(q) for q in at_specificity],
        "at_sensitivity": [as_rates(q) for q in at_sensitivity],
    }


def reliability(probability, outcome, bins, strategy):
    """scikit-learn's curve; its bins' counts are counted again, for the error that it lacks."""
    observed, predicted = metrics_curve(outcome, probability, bins, strategy)
    edges = np.linspace(0, 1, bins + 1)
    if strategy == "quantile":
        edges = np.percentile(probability, edges * 100)
    counts = np.bincount(np.searchsorted(edges[1:-1], probability), minlength=bins)
    counts = counts[counts > 0]
    error = float((counts * np.abs(observed - predicted)).sum() / len(probability))
    return {"bins": bins, "strategy": strategy, "count": counts.tolist(), "predicted": predicted.tolist(),
            "observed": observed.tolist(), "error": error}


def metrics_curve(outcome, probability, bins, strategy):
    return calibration.calibration_curve(outcome, probability, n_bins=bins, strategy=strategy)


def all_reliability(probability, outcome):
    return [reliability(probability, outcome, bins, s) for bins in (1, 7, 10, 15) for s in ("uniform", "quantile")]


def binary(name, rng, n, share, step):
    scores, positive = make_scores(rng, n, share, step)
    fpr, tpr, thresholds = metrics.roc_curve(positive, scores, drop_intermediate=False)
    precision, recall, pr_thresholds = metrics.precision_recall_curve(positive, scores)
    decided = scores >= 0.5
    return {
        "name": name,
        "scores": scores.tolist(),
        "positive": positive.tolist(),
        "roc_auc": metrics.roc_auc_score(positive, scores),
        "average_precision": metrics.average_precision_score(positive, scores),
        "roc": [thresholds[1:].tolist(), fpr.tolist(), tpr.tolist()],
        "pr": [pr_thresholds[::-1].tolist(), precision[-2::-1].tolist(), recall[-2::-1].tolist()],
        "cut": cut(scores, positive),
        "brier": metrics.brier_score_loss(positive, scores),
        "log_loss": metrics.log_loss(positive, scores),
        "reliability": all_reliability(scores, positive),
        "accuracy": metrics.accuracy_score(positive, decided),
        "balanced_accuracy": metrics.balanced_accuracy_score(positive, decided),
        "f1": metrics.f1_score(positive, decided),
        "precision": metrics.precision_score(positive, decided),
        "recall": metrics.recall_score(positive, decided),
        "specificity": metrics.recall_score(positive, decided, pos_label=0),
        "kappa": metrics.cohen_kappa_score(positive, decided),
        "calibration": fitted(scores, positive),
    }


def fitted(scores, positive):
    """Platt's and the isotonic calibration of the log-odds, at new places."""
    odds = special.logit(np.clip(scores, 1e-3, 1 - 1e-3))
    theirs = calibration._SigmoidCalibration().fit(odds, positive)
    a, b = platt(odds, positive, [theirs.a_, theirs.b_])
    difference = np.abs(special.expit(-(a * odds + b)) - theirs.predict(odds)).max()
    assert difference < 1e-4, difference
    at = np.linspace(-8, 8, 81)
    rising = isotonic.IsotonicRegression(out_of_bounds="clip").fit(odds, positive)
    return {"scores": odds.tolist(), "at": at.tolist(), "platt": [a, b], "platt_at": special.expit(-(a * at + b)).tolist(),
            "isotonic_at": rising.predict(at).tolist(), "isotonic_own": rising.predict(odds).tolist()}


def platt(scores, positive, start):
    """The root of the gradient of Platt's loss; scikit-learn's stops a little before it."""
    p, n = positive.sum(), (~positive).sum()
    target = np.where(positive, (p + 1) / (p + 2), 1 / (n + 2))

    def gradient(ab):
        error = special.expit(-(ab[0] * scores + ab[1])) - target
        return [-(error * scores).sum(), -error.sum()]

    root = optimize.root(gradient, start, tol=1e-15)
    assert np.abs(gradient(root.x)).max() < 1e-11, gradient(root.x)
    return root.x.tolist()


def multiclass(rng, n, classes):
    """Probabilities in twentieths, so that many are tied."""
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    draws = rng.dirichlet(np.ones(classes), n) + 0.8 * np.eye(classes)[labels]
    probability = np.stack([rng.multinomial(20, row / row.sum()) for row in draws]) / 20
    decided = probability.argmax(1)
    one = np.eye(classes)[labels]
    logits = rng.normal(size=(n, classes)) * 2 + 1.5 * one
    average = lambda measure, how: float(measure(labels, decided, average=how))
    top = probability.max(1)
    return {
        "classes": classes,
        "probability": probability.flatten().tolist(),
        "labels": labels.tolist(),
        "decided": decided.tolist(),
        "roc_auc": [metrics.roc_auc_score(labels == k, probability[:, k]) for k in range(classes)],
        "macro": metrics.roc_auc_score(labels, probability, multi_class="ovr", average="macro"),
        "weighted": metrics.roc_auc_score(labels, probability, multi_class="ovr", average="weighted"),
        "confusion": metrics.confusion_matrix(labels, decided).flatten().tolist(),
        "accuracy": metrics.accuracy_score(labels, decided),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, decided),
        "kappa": metrics.cohen_kappa_score(labels, decided),
        "quadratic_kappa": metrics.cohen_kappa_score(labels, decided, weights="quadratic"),
        "f1": metrics.f1_score(labels, decided, average=None).tolist(),
        "averages": {name: [average(measure, "macro"), average(measure, "weighted")] for name, measure in
                     [("f1", metrics.f1_score), ("precision", metrics.precision_score), ("recall", metrics.recall_score)]},
        "brier": metrics.brier_score_loss(labels, probability, scale_by_half=False),
        "log_loss": metrics.log_loss(labels, probability),
        "reliability": all_reliability(top, decided == labels),
        "logits": logits.flatten().tolist(),
        "temperature": temperature(logits, labels),
    }


def temperature(logits, labels):
    """Where the slope of the log loss over 1 / temperature is zero."""
    own = logits[np.arange(len(labels)), labels]
    slope = lambda cold: ((special.softmax(cold * logits, axis=1) * logits).sum(1) - own).sum()
    return 1 / optimize.brentq(slope, 1e-6, 1e3, xtol=1e-15, rtol=1e-14)


def delong(rng):
    """DeLong, DeLong and Clarke-Pearson (1988), equations 3 to 7, pair by pair."""
    n, positive = 90, np.zeros(90, bool)
    positive[:35] = True
    rng.shuffle(positive)
    common = rng.normal(size=n)
    scores = [np.round(common + 0.5 * rng.normal(size=n) + effect * positive, 1) for effect in (1.0, 1.4, 0.3)]
    psi = lambda x, y: (x > y) + 0.5 * (x == y)
    table = np.array([[[psi(x, y) for y in s[~positive]] for x in s[positive]] for s in scores])
    areas = table.mean((1, 2))
    covariance = np.cov(table.mean(2)) / table.shape[1] + np.cov(table.mean(1)) / table.shape[2]
    z95 = stats.norm.ppf(0.975)
    error = np.sqrt(np.diag(covariance))
    odds, odds_error = special.logit(areas), error / (areas * (1 - areas))
    pairs = []
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        apart = np.sqrt(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])
        d = areas[i] - areas[j]
        pairs.append([i, j, d, d - z95 * apart, d + z95 * apart, d / apart, 2 * stats.norm.sf(abs(d / apart))])
    return {
        "positive": positive.tolist(),
        "scores": [s.tolist() for s in scores],
        "roc_auc": areas.tolist(),
        "covariance": covariance.tolist(),
        "plain": np.stack([areas - z95 * error, areas + z95 * error], 1).tolist(),
        "logit": special.expit(np.stack([odds - z95 * odds_error, odds + z95 * odds_error], 1)).tolist(),
        "pairs": pairs,
    }


def bootstrap(rng):
    """Intervals of AUROC, average precision and of the difference of two AUROCs, by drawing patients."""
    patients = 120
    group = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    ill = rng.random(patients) < 0.4
    positive = ill[group]
    level = rng.normal(size=patients)[group]
    scores = [np.round(level + 0.7 * rng.normal(size=len(group)) + effect * positive, 1) for effect in (1.0, 0.6)]
    count, result = 20_000, {}
    ways = {
        "items": ([np.arange(len(group))], np.arange(len(group))),
        "groups": ([np.arange(patients)], group),
        "strata": ([np.flatnonzero(ill), np.flatnonzero(~ill)], group),
    }
    for way, (strata, unit_of) in ways.items():
        members = [np.flatnonzero(unit_of == unit) for unit in range(unit_of.max() + 1)]
        values = []
        for _ in range(count):
            drawn = np.concatenate([rng.choice(units, len(units)) for units in strata])
            at = np.concatenate([members[unit] for unit in drawn])
            areas = [by_ranks(s[at], positive[at]) for s in scores]
            values.append([areas[0], average_precision(scores[0][at], positive[at]), areas[0] - areas[1]])
        values = np.array(values)
        result[way] = {
            "low": np.percentile(values, 2.5, axis=0).tolist(),
            "high": np.percentile(values, 97.5, axis=0).tolist(),
            "deviation": values.std(0).tolist(),
            "below_zero": float((values[:, 2] <= 0).mean()),
        }
    return {"group": group.tolist(), "positive": positive.tolist(), "scores": [s.tolist() for s in scores],
            "replicates": count, "ways": result}


def by_ranks(scores, positive):
    p, n = positive.sum(), (~positive).sum()
    return (stats.rankdata(scores)[positive].sum() - p * (p + 1) / 2) / (p * n)


def average_precision(scores, positive):
    all_scores, own = np.sort(scores), np.sort(scores[positive])
    called = len(scores) - np.searchsorted(all_scores, own, "left")
    found = len(own) - np.searchsorted(own, own, "left")
    return (found / called).mean()


def retrieval(rng):
    queries, items = 40, 25
    scores = rng.integers(0, 12, (queries, items)).astype(float)
    relevant = rng.random((queries, items)) < 0.12
    relevant[np.arange(queries), rng.integers(0, items, queries)] = True
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True)
    ranks = 1 + ((scores >= best) & ~relevant).sum(1)
    return {
        "items": items,
        "scores": scores.flatten().tolist(),
        "relevant": relevant.flatten().tolist(),
        "ranks": ranks.tolist(),
        "average_precision": [metrics.average_precision_score(r, s) for r, s in zip(relevant, scores)],
        "map": metrics.label_ranking_average_precision_score(relevant, scores),
        "recall": {str(k): float((ranks <= k).mean()) for k in (1, 5, 10)},
        "mrr": float((1 / ranks).mean()),
        "median_rank": float(np.median(ranks)),
    }


def holm(rng):
    cases = [rng.random(13) ** 4, np.array([0.01, 0.01, 0.02, 1.0, 0.0]), np.array([0.3])]
    return [[p.tolist(), multipletests(p, method="holm")[1].tolist()] for p in cases]


def main():
    for package, version in VERSIONS.items():
        got = importlib.metadata.version(package)
        assert got == version, f"{package}: expected {version}, got {got}"
    rng = np.random.default_rng(20)
    golden = {
        "binary": [
            binary("apart", rng, 120, 0.4, 0),
            binary("tied", rng, 150, 0.3, 0.1),
            binary("rare", rng, 130, 0.03, 0.05),
            binary("two values", rng, 60, 0.5, 1.0),
        ],
        "multiclass": [multiclass(rng, 110, 5), multiclass(rng, 60, 3)],
        "delong": delong(rng),
        "bootstrap": bootstrap(rng),
        "retrieval": retrieval(rng),
        "holm": holm(rng),
    }
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(OUT.stat().st_size, "bytes")


main()
