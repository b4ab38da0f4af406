"""Makes the golden token ids of crates/medsiglip/tests/tokens.rs.

Each text is tokenized by transformers' slow and fast tokenizers, and by SentencePiece behind the
text cleaning of big_vision (Apache-2.0, pp/ops_text.py and evaluators/proj/image_text/
prompt_engineering.py) and of open_clip (MIT, tokenizer.py), whose few lines are repeated below.
Python 3.11 (Unicode 14). SentencePiece is the one of the public container's time: 0.2.3 breaks ties
between equally likely cuts in another way.

    pip install transformers==4.51.3 tokenizers==0.21.4 sentencepiece==0.2.0 protobuf==7.36.2 ftfy==6.3.1
    python scripts/make_token_golden.py --prompts ../shared/reference/prompts.json \
        --tokenizer crates/medsiglip/tests/data/tiny --out crates/medsiglip/tests/data/tokens/tiny.json
    python scripts/make_token_golden.py --prompts ../shared/reference/prompts.json \
        --tokenizer ../shared/data/tokenizer --out crates/medsiglip/tests/data/tokens/published.json

One line a text: the ids without the closing run of </s>, under the name of each canonicalizer;
a canonicalizer that is absent has the ids of hf-slow. `null` marks a text whose encoding ftfy would
repair, which our open-clip does not do.
"""

import argparse
import html
import json
import pathlib
import random
import re
import string

import ftfy
import sentencepiece
import transformers

LENGTH = 64
EOS = 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    encoders = make_encoders(args.tokenizer)
    lines = []
    for text in texts(json.loads(args.prompts.read_text())["tasks"]):
        ids = {name: trimmed(encode(text)) for name, encode in encoders.items()}
        slow = ids["hf-slow"]
        ids = {name: i for name, i in ids.items() if name == "hf-slow" or i != slow}
        if repairs_encoding(text):
            ids["open-clip"] = None
        lines.append(json.dumps({"text": text, **ids}, ensure_ascii=True))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("[\n" + ",\n".join(lines) + "\n]\n")


# The references


def make_encoders(folder):
    slow = transformers.SiglipTokenizer.from_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))

    def hf(tokenizer):
        return lambda text: tokenizer(text, max_length=LENGTH, padding="max_length", truncation=True)["input_ids"]

    def big_vision(clean):
        # `eos="sticky", pad_value="</s>"`.
        def encode(text):
            ids = model.encode(clean(text)) + [EOS]
            return ids[: LENGTH - 1] + ids[-1:] if len(ids) > LENGTH else ids + [EOS] * (LENGTH - len(ids))
        return encode

    return {
        "hf-slow": hf(slow),
        "hf-fast": hf(fast),
        "bigvision": big_vision(tf_strings_lower),
        # The tokenizing op lowers again.
        "bigvision-zeroshot": big_vision(lambda text: tf_strings_lower(canonicalize_text(text))),
        "open-clip": big_vision(lambda text: canonicalize_text(basic_clean(text))),
    }


def tf_strings_lower(text):
    """`tf.strings.lower` without an encoding: ASCII alone."""
    return text.encode().lower().decode()


def canonicalize_text(text):
    text = text.replace("_", " ")
    text = text.translate(str.maketrans("", "", string.punctuation))
    text = text.lower()
    return re.sub(r"\s+", " ", text).strip()


def basic_clean(text):
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def repairs_encoding(text):
    return ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False, fix_c1_controls=False)


def trimmed(ids):
    assert len(ids) == LENGTH and ids[-1] == EOS, ids
    while ids and ids[-1] == EOS:
        ids = ids[:-1]
    return ids


# The texts


def texts(tasks):
    every = [*EDGE_CASES, *edge_words(), *prompts_of(tasks), *random_texts()]
    return dict.fromkeys(every)


def prompts_of(tasks):
    for task in tasks.values():
        for label, prompts in task.get("classes", {}).items():
            yield label
            yield from prompts
        for finding in task.get("findings", {}).values():
            yield from finding["present"] + finding["absent"]


def edge_words():
    """Each kind of whitespace, control character and ASCII punctuation, between, before and after words."""
    for code in [*range(0x21), 0x7F, 0x80, 0x85, 0x8F, 0x9F, 0xA0, 0xAD, 0x1680, 0x180E, 0x2000, 0x2009, 0x200A,
                 0x200B, 0x200C, 0x200D, 0x200E, 0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x2581, 0x3000, 0xFEFF,
                 0xFFFD]:
        yield f"{chr(code)}left{chr(code)}lung {chr(code)} clear{chr(code)}"
    for mark in string.punctuation:
        yield f"{mark}left{mark}lung {mark} clear{mark}"


def random_texts():
    rng = random.Random(0)
    letters = "aaabcdeeeehiilmnoprsttu 0123456789 111   "
    for _ in range(80):
        yield "".join(rng.choice(letters) for _ in range(rng.randrange(1, 120)))
    odd = letters + "éßİΣςﬁ①½㎜™…–—“”‘’µμ°±≤×ÅÅ①ａＡ＜가각日本語한글العربيةहिन्दी😀👩‍⚕️🫁\u0301\u0308\u0338\u200d\ufe0f_-/<>.,"
    for _ in range(80):
        yield "".join(rng.choice(odd) for _ in range(rng.randrange(1, 60)))


EDGE_CASES = [
    "", " ", "   ", "\t\n", ".", "...", "!?", "_", "-", "/", "<>", " . ", "▁", "▁▁", " ▁ ", "\u200b", "\x00", "a\x00b",
    "and/or", "<5mm", ">5 mm", "T1_weighted", "X-ray.", "a chest X-ray", "A CHEST X-RAY", "it's", "HE-stained",
    "no  acute   process", " leading", "trailing ", "\nnew\nlines\n", "tabs\tand\r\nreturns", "a", "A", "1", "11", "111",
    "1111", "11111111111", "3.14", "1,000,000", "50%", "12 x 34 mm", "10^3", "2+2=4", "$5", "#1", "@home", "C5/C6",
    "T2*", "18F-FDG", "L4-L5", "ICD-10: J18.9", "HbA1c > 6.5%", "e.g., i.e., etc.", "(parenthesis)", "[brackets]",
    "{braces}", "\"quoted\"", "'single'", "back\\slash", "pipe|pipe", "tilde~", "back`tick", "semi;colon", "a:b",
    # Special tokens as text
    "</s>", "<unk>", "<pad>", "<s>", "</S>", "<UNK>", "<unK>", "<un\u212a>", "</s></s>", "left </s> lung",
    "left</s>lung", "left  </s>  lung", " </s> lung", "left lung</s>", "left lung </s> ", "</s> left", "<unk> left",
    "left <unk> lung", "left<unk>lung", "<unk><unk>", "<unk></s>", "<pad> left <pad>", "<<unk>>", "<</s>>", "</s",
    "<0x41>", "<0xE2>", "</s>\u0338left", "</s>.", ". </s>", "\x1c</s>\x1dx", "</ſ>", "</s>▁x", "▁</s>",
    # Letters whose lower case is special
    "İstanbul", "ΟΔΟΣ", "ΣΑΣ ΣΙΓΜΑ", "ẞ", "ǅ", "Ǆ", "K", "Å", "Ω", "Ⅷ", "Ⓐ", "ſ", "Ϊ́", "Ŀ",
    "ÉCOLE", "ÀÉÎÕÜ", "Ärzte", "naïve façade", "Sjögren's syndrome", "Ménière", "café", "cafe\u0301", "Ångström",
    "A\u030angstro\u0308m", "I\u0307", "i\u0307\u0301", "\u0301", " \u0301", "a \u0301b", "\u0338", "<\u0338", "=\u0338x",
    # Compatibility forms, which nmt_nfkc changes
    "ﬁbrosis", "ﬀ ﬁ ﬂ ﬃ ﬄ ﬅ ﬆ", "ĳ ŉ ǳ", "５ｍｍ", "ＣＨＥＳＴ", "Ｘ－ｒａｙ．", "＜５ｍｍ", "＜／ｓ＞", "＿", "①②③", "½ ¼ ¾", "x²", "H₂O", "10⁻³",
    "㎜ ㎝ ㎏ ㏄", "™ ® ©", "…", "‥", "Å K Ω", "µg μg", "ﷺ", "ｱｲｳ", "ｶﾞ", "ガ", "カ\u3099", "㍿", "𝐀𝑩𝒞", "ℌ", "№ 5", "℃", "″ ′",
    "‐ ‑ ‒ – — ―", "non\u00adbreaking", "word\u2060joiner", "zero\u200bwidth", "a\u200db", "\ufeffbom",
    "\ufb1d", "\u0344", "\u0958", "\u1e9b\u0323", "\u2126", "각", "\u1100\u1161\u11a8",
    # Other scripts, bytes
    "日本語の胸部X線", "胸部CT", "肺炎の所見なし", "没有气胸", "한국어 흉부", "рентген грудной клетки", "РЕНТГЕН", "ακτινογραφία", "صورة الصدر",
    "צילום חזה", "छाती का एक्स-रे", "ภาพเอกซเรย์", "Röntgenaufnahme der Brust", "radiografía de tórax", "tiền sử",
    "😀", "👍🏽", "🫁", "👩‍⚕️", "🇩🇪", "❤️", "a😀b", "😀😀", "𐍈", "\U0010ffff", "\ue000", "\ufffe", "\ufffd", "�",
    "≤5 mm", "≥ 3", "±2", "×10", "→", "°", "§", "¿qué?", "«guillemets»", "„low“ “high” ‘single’ ’", "‚x‘", "‹x›", "、。",
    "·", "•", "¶", "€5", "£5", "¥", "₂", "\u2212", "−5", "〈x〉", "【所見】", "！？",
    # HTML entities
    "&lt;5mm", "&amp;lt;", "&amp;amp;lt;5", "caf&eacute;", "caf&eacute", "P&EACUTE;REZ", "&nbsp;x&nbsp;y", "&#60;5",
    "&#x3c;5", "&#39;s", "R&D", "a & b", "AT&T;", "&copy 2020", "<b>bold</b> &amp; &lt;i&gt;", "&nosuch;", "&", "&;",
    "&#;", "&#x;", "&#0;", "&#x110000;", "&#128;", "&notit;", "&ampamp;", "1 &lt 2", "x &gt; y\nz &lt; w < v &gt;",
    # Terminal escapes
    "\x1b[31mred\x1b[0m", "\x1b[x", "\x1b",
    # Long texts
    "normal " * 62, "normal " * 63, "normal " * 64, "chest x-ray with no finding " * 40, "a" * 300, "1" * 200,
    "😀" * 40, "left lung </s> " * 40, "</s>" * 70, "." * 200, "a." * 100,
    "the heart size is normal and the lungs are clear without focal consolidation effusion or pneumothorax " * 4,
]


if __name__ == "__main__":
    main()
