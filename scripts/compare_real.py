"""
From picture files to scores: `medsiglip` against transformers, on the CPU in float32.

    python scripts/compare_real.py --model DIR --binary target/release/medsiglip cxr.jpg fundus.jpg tile.png

Runs `embed` and `classify` as a user does, and transformers' own processors and model on the same files and texts.
Exits 1 where a normalised embedding differs by more than 2e-5, a cosine is below 0.99999, or a logit differs by more
than 2e-3 (2e-5 at a temperature of 100).
"""

import argparse
import json
import subprocess
import sys

import numpy as np
import torch
from PIL import Image
from transformers import SiglipImageProcessor, SiglipModel, SiglipTokenizer

import golden_common as common

TEXTS = [
    "a chest x-ray",
    "Fundus photograph, right eye; no diabetic retinopathy!",
    "H&E histopathology of the lung and/or pleura",
    "a scan with a lesion <5mm",
]
MAX_ABS = 2e-5
MIN_COSINE = 0.99999
MAX_ABS_LOGIT = 2e-3


def ours(binary, model, arguments):
    """The lines that the binary answers, as objects."""
    command = [binary, *arguments, "--model", model, "--format", "jsonl", "--quiet"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


@torch.no_grad()
def reference(folder, files):
    """Image embeddings, text embeddings, not normalised, and logits (images, texts)."""
    model = SiglipModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    processor = SiglipImageProcessor.from_pretrained(folder)
    tokenizer = SiglipTokenizer.from_pretrained(folder)
    pictures = [Image.open(file).convert("RGB") for file in files]
    pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
    length = model.config.text_config.max_position_embeddings
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="pt")["input_ids"]
    output = model(input_ids=ids, pixel_values=pixels)
    images, texts = model.get_image_features(pixels), model.get_text_features(ids)
    return images.numpy(), texts.numpy(), output.logits_per_image.numpy()


def normalized(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def compare(name, got, expected):
    """Prints the largest difference of normalised rows and the smallest cosine; whether both are within bounds."""
    got, expected = normalized(got), normalized(expected)
    worst = np.abs(got - expected).max()
    cosine = (got * expected).sum(axis=1).min()
    print(f"{name:8} {len(got)} rows: max abs {worst:.1e}, cosine at least {cosine:.9f}")
    return worst <= MAX_ABS and cosine >= MIN_COSINE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint folder in Hugging Face layout")
    parser.add_argument("--binary", default="target/release/medsiglip")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    common.check_versions()
    texts = [argument for text in TEXTS for argument in ("--text", text)]
    rows = ours(args.binary, args.model, ["embed", *args.files, *texts])
    # Commas separate labels: they are given without.
    labels = [text.replace(",", "") for text in TEXTS]
    scored = ours(args.binary, args.model, ["classify", *args.files, "--labels", ",".join(labels)])
    images, sentences, logits = reference(args.model, args.files)
    embeddings = [row["embedding"] for row in rows]
    fits = compare("images", embeddings[: len(args.files)], images)
    fits &= compare("texts", embeddings[len(args.files) :], sentences)
    got = np.array([[score["logit"] for score in line["scores"]] for line in scored])
    worst = np.abs(got - logits).max()
    print(f"logits   {got.shape}: max abs {worst:.1e}")
    sys.exit(0 if fits and worst <= MAX_ABS_LOGIT else 1)


if __name__ == "__main__":
    main()
