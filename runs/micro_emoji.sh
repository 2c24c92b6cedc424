#!/usr/bin/env bash
# Flow matching beside Self-Flow: `micro` on emoji, one core each, from the same weights and in the same order of data.
#
# The steps are chosen so that both take the same time (a Self-Flow step costs a quarter more); the rate is constant for three
# fifths of each run, so that up to step 1000 they can be compared at equal steps, and falls to zero in the rest. Keeps
# the averaged weights of every 250th step and of the last. Needs the packs emoji64 and mobilenetv2_feats; an hour and a half
# on two quiet cores; resumes when run again.
#
#   runs/micro_emoji.sh [OUT] [SEED]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-out/micro-emoji} seed=${2:-0}

train() {
  local name=$1 steps=$2 done=0
  while [ "$done" -lt "$steps" ]; do
    done=$((done + 250 < steps ? done + 250 : steps))
    OMP_NUM_THREADS=1 .venv/bin/selfflow train micro --out "$out/$name" --objective "$name" --seed "$seed" \
      --steps "$steps" --until "$done" --config.optim.cooldown 0.4 --config.train.threads 1 --quiet
    mkdir -p "$out/$name/snapshots/$done"
    cp "$out/$name"/{model.safetensors,config.json,tokenizer.json} "$out/$name/snapshots/$done/"
  done
}

train self-flow 1830 &
train flow-matching 2250 &
wait
.venv/bin/python runs/compare.py "$out" --step 1000 --json docs/figures/micro_emoji.json
