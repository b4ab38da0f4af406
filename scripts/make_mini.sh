#!/usr/bin/env bash
# Trains medsiglip-mini and puts it where it is compiled in.
#
#     scripts/make_mini.sh
#
# Needs ../shared/data. Leaves the run in runs/mini, the model in crates/medsiglip/models/medsiglip-mini, and in
# docs/mini.json what it was made from: seed, hashes of the data, time, measures.
set -euo pipefail
cd "$(dirname "$0")/.."
data=../shared/data
model=crates/medsiglip/models/medsiglip-mini

hash_of() { (cd "$data/$1" && find . -type f ! -name README.md -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1); }

rm -rf runs/mini
cargo build --release
began=$(date +%s)
cargo run --release -- train configs/train/mini.toml --output runs/mini
seconds=$(($(date +%s) - began))
mkdir -p "$model" docs
cp runs/mini/model/* "$model/"
{
    printf '{\n  "config": "configs/train/mini.toml",\n  "seed": %s,\n' "$(sed -n 's/^seed = \([0-9]*\).*/\1/p' configs/train/mini.toml)"
    printf '  "commit": "%s",\n' "$(git rev-parse HEAD)"
    printf '  "seconds": %s,\n  "cores": %s,\n' "$seconds" "$(nproc)"
    printf '  "data": {\n'
    printf '    "cxr_nih": "%s",\n' "$(hash_of cxr_nih)"
    printf '    "fundus_idrid": "%s",\n' "$(hash_of fundus_idrid)"
    printf '    "histopathology_lc25000": "%s"\n  },\n' "$(hash_of histopathology_lc25000)"
    printf '  "weights": "%s",\n' "$(sha256sum < "$model/model.safetensors" | cut -d' ' -f1)"
    printf '  "test": %s\n}\n' "$(grep '"side":"test"' runs/mini/log.jsonl | tail -1)"
} > docs/mini.json
