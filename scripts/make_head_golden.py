"""
Makes what the tests of classifiers compare with, from transformers and torch (CPU, float32): `tiny-classifier`, the vision tower of
the checked-in `tiny-odd` as SiglipForImageClassification saves it, and its logits, losses and gradients.

    python scripts/make_head_golden.py

Inputs are made by a formula that the test repeats. The versions are pinned in golden_common.py and checked here.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import SiglipForImageClassification

import golden_common as common

DATA = Path(__file__).resolve().parent.parent / "crates" / "medsiglip" / "tests" / "data"
BATCH, CLASSES = 6, 3
SMOOTHING = 0.1
POS_WEIGHT = torch.tensor([2.0, 0.5, 7.25])
# -1: nobody knows
CELLS = torch.tensor([[1, 0, 1], [0, 0, -1], [-1, 1, 0], [1, -1, -1], [0, 1, 0], [-1, 0, 1]])
LABELS = torch.tensor([2, 0, 1, 1, 0, 2])


def numbers(count, seed):
    """The integers 0..2^24 that a multiplicative hash gives: exact in float32."""
    k = torch.arange(count, dtype=torch.int64) + seed * 1_000_003
    return ((k * 2_654_435_761) % 2**32) >> 8


def classifier():
    """The vision tower of `tiny-odd` with a layer of numbers that bf16 holds exactly."""
    model = SiglipForImageClassification.from_pretrained(
        DATA / "tiny-odd", attn_implementation="eager", torch_dtype=torch.float32, problem_type="multi_label_classification",
        id2label={0: "line", 1: "dot", 2: "ring"}, label2id={"line": 0, "dot": 1, "ring": 2},
    )
    layer = model.classifier
    with torch.no_grad():
        for parameter, seed in [(layer.weight, 71), (layer.bias, 72)]:
            values = numbers(parameter.numel(), seed) % 255 - 127
            parameter.copy_((values.to(torch.float32) / 128).reshape(parameter.shape))
    return model


def main():
    common.check_versions()
    model = classifier()
    folder = DATA / "tiny-classifier"
    model.to(torch.bfloat16).save_pretrained(folder)
    shutil.copy(DATA / "tiny-odd" / "preprocessor_config.json", folder)
    model = SiglipForImageClassification.from_pretrained(folder, attn_implementation="eager", torch_dtype=torch.float32)
    model.train()
    size = model.config.vision_config.image_size
    pixels = numbers(BATCH * 3 * size * size, 0).to(torch.float32) / 2**23 - 1
    pixels = pixels.reshape(BATCH, 3, size, size)
    golden = {"logits": model(pixels).logits.detach()}

    def losses(name, loss, plain):
        model.zero_grad()
        loss.backward()
        golden[f"{name}.loss"] = loss.detach().reshape(1)
        golden[f"{name}.plain"] = plain.detach().reshape(1)
        for parameter, value in model.named_parameters():
            if value.grad is not None:
                golden[f"{name}.gradient.{parameter}"] = value.grad.clone()

    # transformers' own losses have no weights and know everything
    model.config.problem_type = "multi_label_classification"
    plain = model(pixels, labels=(CELLS == 1).to(torch.float32)).loss
    known = CELLS >= 0
    target = CELLS.clamp(min=0) * (1 - SMOOTHING) + SMOOTHING / 2
    cells = binary_cross_entropy_with_logits(model(pixels).logits, target, pos_weight=POS_WEIGHT, reduction="none")
    losses("multilabel", cells[known].mean(), plain)
    model.config.problem_type = "single_label_classification"
    plain = model(pixels, labels=LABELS).loss
    losses("multiclass", cross_entropy(model(pixels).logits, LABELS, label_smoothing=SMOOTHING), plain)
    save_file(golden, DATA / "golden" / "tiny-classifier.safetensors", metadata={"torch": torch.__version__})
    print({name: value.item() for name, value in golden.items() if value.numel() == 1})


main()
