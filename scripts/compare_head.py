"""
Compares `medsiglip classify` on a trained classifier with transformers' SiglipForImageClassification on the same folder: classes, and
logits to 1e-4. Pictures are read and prepared by either side's own code.

    python scripts/compare_head.py BINARY FOLDER PICTURE...
"""

import json
import subprocess
import sys

import torch
from PIL import Image
from transformers import AutoImageProcessor, SiglipForImageClassification

MAX_DIFFERENCE = 1e-4


def main(binary, folder, *pictures):
    model, loading = SiglipForImageClassification.from_pretrained(folder, output_loading_info=True)
    wrong = {kind: names for kind, names in loading.items() if names}
    if wrong:
        raise SystemExit(f"transformers does not load every weight: {wrong}")
    processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
    labels = [model.config.id2label[i] for i in range(model.config.num_labels)]
    command = [binary, "classify", "--model", folder, "--format", "jsonl", *pictures]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    worst = 0.0
    for line in map(json.loads, lines):
        inputs = processor(images=Image.open(line["id"]).convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            want = model.eval()(**inputs).logits[0]
        if [score["label"] for score in line["scores"]] != labels:
            raise SystemExit(f"{line['id']}: expected the classes {labels}")
        got = torch.tensor([score["logit"] for score in line["scores"]])
        worst = max(worst, (got - want).abs().max().item())
        shares = torch.sigmoid(want) if model.config.problem_type.startswith("multi") else torch.softmax(want, 0)
        probabilities = torch.tensor([score["probability"] for score in line["scores"]])
        worst = max(worst, (probabilities - shares).abs().max().item())
    print(f"{len(lines)} pictures, {len(labels)} classes, {model.config.problem_type}: at most {worst:.1e} apart")
    if len(lines) != len(pictures) or worst > MAX_DIFFERENCE:
        raise SystemExit(f"expected all pictures, and at most {MAX_DIFFERENCE}")


main(*sys.argv[1:])
