"""
Makes the models and goldens that the Rust tests compare with, from the reference implementation (transformers, torch, CPU, float32).

    python scripts/make_golden.py tiny
    python scripts/make_golden.py full --out DIR --tokenizer FOLDER --image FILE --image FILE
    python scripts/make_golden.py full-896 --out DIR --image FILE

See scripts/README.md. The versions are pinned in golden_common.py and checked here.
"""

import argparse
from pathlib import Path

import torch

import golden_common as common
import golden_full
import golden_tiny

DATA = Path(__file__).resolve().parent.parent / "crates" / "medsiglip" / "tests" / "data"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def main():
    arguments = parser().parse_args()
    common.check_versions()
    if arguments.command == "tiny":
        golden_tiny.make(arguments.data)
    elif arguments.command == "full":
        dtype = DTYPES[arguments.dtype]
        golden_full.make(arguments.out, arguments.tokenizer, arguments.image, dtype, arguments.max_shard_size)
    else:
        golden_full.make_896(arguments.out, arguments.image)


def parser():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)

    tiny = commands.add_parser("tiny", help="the checked-in tiny models and their goldens")
    tiny.add_argument("--data", type=Path, default=DATA, help="the folder to write into")

    full = commands.add_parser("full", help="both towers at full size, 448 pixels")
    full.add_argument("--tokenizer", type=Path, required=True, help="a folder with the published SigLIP tokenizer's files")
    full.add_argument("--dtype", choices=DTYPES, default="f32", help="how the weights are stored")
    full.add_argument("--max-shard-size", default="10GB", help="above it the weights are split")

    full_896 = commands.add_parser("full-896", help="the vision tower alone, 896 pixels, bfloat16, Gemma 3's names")
    for command in (full, full_896):
        command.add_argument("--out", type=Path, required=True, help="the folder to write into, outside the repository")
        command.add_argument("--image", type=Path, action="append", required=True, help="a picture; may be repeated")
    return top


if __name__ == "__main__":
    main()
