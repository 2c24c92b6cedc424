#!/usr/bin/env bash
# Flow matching beside Self-Flow: `micro` on emoji, one core each, from the same weights, data order, times and noise.
#
# Keeps the averaged weights of every 250th step in OUT/*/snapshots, so that the two can be compared at equal steps and at
# equal wall-clock. Needs the packs emoji64 and mobilenetv2_feats. Resumes when run again.
#
#   runs/micro_emoji.sh [OUT] [STEPS] [SEED]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-out/micro-emoji} steps=${2:-3000} seed=${3:-0}

train() {
  local name=$1 objective=$2 done
  for ((done = 250; done <= steps; done += 250)); do
    OMP_NUM_THREADS=1 .venv/bin/selfflow train micro --out "$out/$name" --objective "$objective" --seed "$seed" \
      --steps "$steps" --until "$done" --config.train.threads 1 --quiet
    mkdir -p "$out/$name/snapshots/$done"
    cp "$out/$name"/{model.safetensors,config.json,tokenizer.json} "$out/$name/snapshots/$done/"
  done
}

train self-flow self-flow &
train flow-matching flow-matching &
wait
.venv/bin/python runs/compare.py "$out" --json docs/figures/micro_emoji.json
