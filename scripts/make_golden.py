"""
Makes the models and goldens that the Rust tests compare with, from the reference implementation (transformers, torch, CPU, float32).

    python scripts/make_golden.py tiny
    python scripts/make_golden.py full --out DIR --tokenizer FOLDER --image FILE --image FILE ...

See scripts/README.md. The versions are pinned in golden_common.py and checked here.
"""

import argparse
from pathlib import Path

import golden_common as common

DATA = Path(__file__).resolve().parent.parent / "crates" / "medsiglip" / "tests" / "data"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tiny = commands.add_parser("tiny", help="the checked-in tiny models and their goldens")
    tiny.add_argument("--data", type=Path, default=DATA, help="the folder to write into")
    arguments = parser.parse_args()

    common.check_versions()
    if arguments.command == "tiny":
        import golden_tiny

        golden_tiny.make(arguments.data)


if __name__ == "__main__":
    main()
