"""
Compares another program's tensors with the goldens of the same names.

    python scripts/compare_full.py DIR/golden.safetensors ours.safetensors

For each tensor that both files hold: the largest difference, the same relative to the golden's largest magnitude,
and the smallest cosine between rows. Exits 1 where a tensor is not finite, has another shape, or is beyond a limit.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

INPUTS = ("pixel_values", "input_ids")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("--max-relative", type=float, default=1e-4, help="largest difference over the golden's largest magnitude")
    parser.add_argument("--min-cosine", type=float, default=0.99999, help="smallest cosine between rows")
    arguments = parser.parse_args()

    golden, ours = load_file(arguments.golden), load_file(arguments.ours)
    shared = [name for name in golden if name in ours and name not in INPUTS]
    if not shared:
        raise SystemExit("no tensor in common")
    results = [compare(name, golden[name], ours[name], arguments) for name in sorted(shared)]
    sys.exit(0 if all(results) else 1)


def compare(name, golden, ours, limits):
    """Prints a line about one tensor; whether it is within the limits."""
    if golden.shape != ours.shape:
        print(f"{name:32} FAIL shape {ours.shape}, expected {golden.shape}")
        return False
    golden, ours = golden.astype(np.float64), ours.astype(np.float64)
    difference = np.abs(golden - ours).max()
    relative = difference / max(np.abs(golden).max(), np.finfo(np.float64).tiny)
    cosine = smallest_cosine(golden, ours)
    # Written so that a NaN fails.
    good = relative <= limits.max_relative and cosine >= limits.min_cosine
    print(f"{name:32} {'ok  ' if good else 'FAIL'} max {difference:.3e}  relative {relative:.3e}  cosine {cosine:.8f}")
    return bool(good)


def smallest_cosine(golden, ours):
    """The smallest cosine between corresponding rows along the last axis."""
    dot = (golden * ours).sum(-1)
    return (dot / (np.linalg.norm(golden, axis=-1) * np.linalg.norm(ours, axis=-1))).min()


if __name__ == "__main__":
    main()
