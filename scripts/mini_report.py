#!/usr/bin/env python3
"""What each trick brings to configs/train/mini.toml: short trainings with one trick less or one more, with several seeds.

    cargo build --release
    python3 scripts/mini_report.py --steps 400 --seeds 1 2 3

One training after the other, in runs/mini_report-400; what is finished there is not done again, so that a stopped report goes on
and more seeds are added to it. The split stays that of seed 1: a seed is another start and another order of the same
pictures. Prints the tables of docs/mini_report.md. Python 3.11, nothing else.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TASKS = ["cxr_pneumonia", "referable diabetic retinopathy", "lung_histology"]

DCT = (r"^\[model\.new\.init\]\n", '[model.new.init]\npatch = "dct"\n')


def auxiliary(mask):
    return (r"^\[batch\]\n", f"[auxiliary]\nweight = 1\nmask = {mask}\n\n[batch]\n")


# What is another in mini.toml: patterns, each of which must be found, and what stands in their place.
VARIANTS = {
    "base": [],
    "no_average": [(r"^average = .*\n", "")],
    "no_augmentation": [(r"^\[source\.augment\]\n(?:[^\[\n].*\n)*", "")],
    "no_mimetic": [(r", attention = \"mimetic\"", "")],
    "no_text_warm_start": [(r"^\[text_warm_start\]\n(?:[^\[\n].*\n)*", "")],
    "dct": [DCT],
    "auxiliary": [auxiliary(0)],
    "auxiliary_masked": [auxiliary(0.3)],
    "dct_auxiliary": [DCT, auxiliary(0)],
}


def config(name, seed, steps):
    text = (ROOT / "configs/train/mini.toml").read_text()
    for pattern, now in VARIANTS[name]:
        text, found = re.subn(pattern, now, text, flags=re.M)
        if not found:
            sys.exit(f"{name}: mini.toml has no {pattern}")
    text = text.replace("../../../shared/data", str(ROOT.parent / "shared/data"))
    for pattern, now in [
        (r"^seed = \d+", f"seed = {seed}"),
        (r"^steps = \d+", f"steps = {steps}"),
        (r"^every = \d+", "every = 0"),
        (r"^\[split\]\n", "[split]\nseed = 1\n"),
    ]:
        text = re.sub(pattern, now, text, count=1, flags=re.M)
    return text


def results(run):
    """AUROC by side and task, once the run is finished."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    events = [json.loads(line) for line in lines if '"measured"' in line]
    sides = {e["side"]: {r["task"]: r["auroc"]["value"] for r in e["results"]} for e in events}
    return sides if "test" in sides else None


def train(program, folder, name, seed, steps):
    run = folder / f"{name}-{seed}"
    if results(run):
        return
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    file = folder / f"{name}-{seed}.toml"
    file.write_text(config(name, seed, steps))
    with open(folder / f"{name}-{seed}.log", "w") as log:
        subprocess.run([program, "train", file, "--output", run, "--quiet"], stdout=log, stderr=log, check=True)
    for part in ["checkpoints", "start", "tensorboard"]:
        shutil.rmtree(run / part, ignore_errors=True)


def cell(values):
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def table(folder, names):
    """Mean and spread of the AUROCs of all finished runs of a variant, and how many there are."""
    rows = []
    for side in ["val", "test"]:
        rows += [f"\n{side.capitalize()}:\n", "| | seeds | pneumonia | referable DR | lung histology | mean of three |", "|---|---|---|---|---|---|"]
        for name in names:
            runs = [results(run) for run in sorted(folder.glob(f"{name}-[0-9]*")) if run.is_dir()]
            runs = [run[side] for run in runs if run]
            if not runs:
                continue
            columns = [[run[task] for run in runs] for task in TASKS]
            columns.append([statistics.mean(run[task] for task in TASKS) for run in runs])
            rows.append(f"| {name} | {len(runs)} | {' | '.join(map(cell, columns))} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--folder", type=Path, help="default: runs/mini_report-STEPS")
    parser.add_argument("--program", default=ROOT / "target/release/medsiglip")
    args = parser.parse_args()
    folder = (args.folder or ROOT / f"runs/mini_report-{args.steps}").resolve()
    for seed in args.seeds:
        for name in args.only:
            train(args.program, folder, name, seed, args.steps)
    print(table(folder, list(VARIANTS)))


if __name__ == "__main__":
    main()
