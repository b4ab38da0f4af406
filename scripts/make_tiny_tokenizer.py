"""Makes the tiny tokenizer of the tests: spiece.model and the tokenizer.json that matches it.

A SentencePiece unigram model with the layout of the published one (c4_en): <pad> 0, </s> 1, <unk> 2,
bytes from 3, the nmt_nfkc rule, a dummy prefix; trained on the published prompts, with 600 pieces.

    pip install sentencepiece==0.2.3 protobuf==7.36.2
    python scripts/make_tiny_tokenizer.py --prompts ../shared/reference/prompts.json \
        --out crates/medsiglip/tests/data/tiny
"""

import argparse
import base64
import io
import json
import pathlib
import string

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

VOCAB_SIZE = 600
# As in the published tokenizer.json, which forgets `/`, `<` and `>`.
REMOVED_BY_FAST = r"""[!"\#\$%\&'\(\)\*\+,\-\.:;=\?@\[\\\]\^_`\{\|\}\~]"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    model = train(json.loads(args.prompts.read_text()))
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "spiece.model").write_bytes(model)
    write_json(args.out / "tokenizer.json", tokenizer_json(proto), indent=1)
    write_json(args.out / "tokenizer_config.json", tokenizer_config(), indent=2)
    write_json(args.out / "special_tokens_map.json", special_tokens_map(), indent=2)


def prompts_of(tasks):
    for task in tasks.values():
        for prompts in task.get("classes", {}).values():
            yield from prompts
        for finding in task.get("findings", {}).values():
            yield from finding["present"] + finding["absent"]


def train(prompts):
    sentences = [prompt.lower() for prompt in prompts_of(prompts["tasks"])]
    # Every printable ASCII character once, so that punctuation and digits are pieces of their own.
    sentences += [" ".join(string.ascii_lowercase + string.digits + string.punctuation)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="unigram",
        vocab_size=VOCAB_SIZE,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc",
        add_dummy_prefix=True,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=1,
    )
    return model.getvalue()


def tokenizer_json(proto):
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    a, b, eos = ({"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}},
                 {"SpecialToken": {"id": "</s>", "type_id": 0}})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(0, "<pad>", strip=False), added_token(1, "</s>", strip=True),
            added_token(2, "<unk>", strip=True),
        ],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": REMOVED_BY_FAST}, "content": ""},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Precompiled", "precompiled_charsmap": charsmap},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]},
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing", "single": [a, eos], "pair": [a, eos, b, eos],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram", "unk_id": 2,
            "vocab": [[piece.piece, piece.score] for piece in proto.pieces],
            "byte_fallback": True,
        },
    }


def added_token(token_id, content, strip):
    return {"id": token_id, "content": content, "single_word": False, "lstrip": strip, "rstrip": strip,
            "normalized": False, "special": True}


def tokenizer_config():
    def token(content):
        return {"content": content, "lstrip": True, "normalized": False, "rstrip": True,
                "single_word": False, "special": True}
    return {
        "added_tokens_decoder": {"1": token("</s>"), "2": token("<unk>")},
        "additional_special_tokens": [],
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "eos_token": "</s>",
        "model_input_names": ["input_ids"],
        "model_max_length": 64,
        "pad_token": "</s>",
        "processor_class": "SiglipProcessor",
        "sp_model_kwargs": {},
        "tokenizer_class": "SiglipTokenizer",
        "unk_token": "<unk>",
    }


def special_tokens_map():
    def token(content):
        return {"content": content, "lstrip": True, "normalized": False, "rstrip": True, "single_word": False}
    return {"eos_token": token("</s>"), "pad_token": token("</s>"), "unk_token": token("<unk>")}


def write_json(path, value, indent):
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
