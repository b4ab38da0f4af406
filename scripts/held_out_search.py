"""Which pictures medsiglip-mini never saw, with what they show, for `index add --metadata`.

    medsiglip eval configs/eval/mini.toml --output report
    python scripts/held_out_search.py report ../shared/data > held_out.csv
    cut -d, -f1 held_out.csv | tail -n +2 | medsiglip index add held_out - --metadata held_out.csv
    medsiglip index eval held_out --label histology --task lung_histology
    medsiglip index eval held_out --label grade --task diabetic_retinopathy
    medsiglip index eval held_out --label referable --prompts scripts/referable.toml
    medsiglip search held_out --text "diabetic retinopathy severity: severe." --html hits.html

Needs pyarrow==26.0.1. The test side is that of the report's own split, which is that of training.
"""

import csv
import sys
from pathlib import Path

import pyarrow.parquet as pq

GRADES = ["No DR", "Mild DR", "Moderate DR", "Severe DR", "Proliferative DR"]

report, data = Path(sys.argv[1]), Path(sys.argv[2])
scores = pq.read_table(report / "predictions.parquet", columns=["task", "id"]).to_pydict()
held_out = set(zip(scores["task"], scores["id"]))


def rows(folder, task):
    with open(data / folder / "labels.csv", newline="") as file:
        for row in csv.DictReader(file):
            if (task, row["path"]) in held_out:
                yield data / folder / row["path"], row


writer = csv.writer(sys.stdout, lineterminator="\n")
writer.writerow(["path", "grade", "referable", "histology"])
for path, row in rows("fundus_idrid", "referable diabetic retinopathy"):
    grade = int(row["dr_grade"])
    writer.writerow([path, GRADES[grade], "referable" if grade >= 2 else "not referable", ""])
for path, row in rows("histopathology_lc25000", "lung histology"):
    writer.writerow([path, "", "", row["label"]])
