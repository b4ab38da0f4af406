"""
A tokenizer that we trained, as ours and transformers' two kinds read it.

    cargo build --features train --example random_model
    python scripts/compare_trained_tokenizer.py --example target/debug/examples/random_model \
        --prompts ../shared/reference/prompts.json

Trains on every second published prompt, makes a model folder, and compares the ids of the prompts that were left out and
of some odd texts: by our `hf-slow`, by `SiglipTokenizer` from `spiece.model`, and by `PreTrainedTokenizerFast` from
`tokenizer.json` (for texts without the characters that only the slow one removes). Loads the folder by `AutoProcessor`
and `SiglipModel` too. Exits 1 where any differ, or where training again gives other bytes.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from PIL import Image
from transformers import AutoProcessor, PreTrainedTokenizerFast, SiglipModel, SiglipTokenizer

import golden_common as common

ODD = [
    "",
    "?!",
    "Naïve Ödem, 5 µm — «ß»",
    "  T1_weighted   MRI\tof the\u00a0knee ",
    "a </s> b <unk> c",
    "▁ ▁x",
    "zzqqxx 0123456789",
    "ﬁbrosis Ⅳ 中文 🩻",
    "word " * 60,
]
KEPT_BY_FAST = set("/<>")
LENGTH = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", type=pathlib.Path, required=True)
    args = parser.parse_args()
    common.check_versions()
    prompts = sorted({p for p in strings_of(json.loads(args.prompts.read_text())["tasks"]) if "\n" not in p})
    captions, texts = prompts[::2], prompts[1::2] + ODD
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        ours = run(args.example, work, "model", captions, texts)
        again = run(args.example, work, "again", captions, texts)
        same = all(
            (work / "model" / name).read_bytes() == (work / "again" / name).read_bytes()
            for name in ("spiece.model", "tokenizer.json", "model.safetensors")
        )
        failures = 0 if same and ours == again else 1
        print(f"trained twice: {'same' if same else 'OTHER'} bytes")
        failures += compare(work / "model", ours, texts)
        load(work / "model")
    sys.exit(failures > 0)


def strings_of(value):
    """Every text in the published prompt lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_of(item)


def run(example, work, name, captions, texts):
    (work / "captions.txt").write_text("\n".join(captions))
    command = [example.resolve(), work / "captions.txt", work / name]
    lines = "\n".join(texts) + "\n"
    answer = subprocess.run(command, input=lines, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def compare(folder, ours, texts):
    slow = SiglipTokenizer.from_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="</s>", eos_token="</s>")
    options = {"padding": "max_length", "truncation": True, "max_length": LENGTH}
    differ = {"slow": 0, "fast": 0}
    asked_fast = 0
    assert len(ours) == len(texts), (len(ours), len(texts))
    for ids, text in zip(ours, texts):
        readers = {"slow": slow}
        if not KEPT_BY_FAST & set(text):
            readers["fast"] = fast
            asked_fast += 1
        for name, tokenizer in readers.items():
            expected = tokenizer(text, **options)["input_ids"]
            if ids != expected:
                differ[name] += 1
                print(f"{name} {text!r}\n  ours     {ids}\n  {name}     {expected}")
    print(f"{len(texts)} texts, vocabulary {len(slow)}: {differ['slow']} differ from slow; {differ['fast']} of {asked_fast} from fast")
    return sum(differ.values())


def load(folder):
    """As a user of transformers opens it."""
    processor = AutoProcessor.from_pretrained(folder)
    model, report = SiglipModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    inputs = processor(text=["a chest x-ray"], images=Image.new("L", (300, 200)).convert("RGB"), return_tensors="pt", padding="max_length")
    logit = model(**inputs).logits_per_image
    print(f"AutoProcessor {type(processor).__name__}, SiglipModel: logit {logit.item():.4f}")


if __name__ == "__main__":
    main()
