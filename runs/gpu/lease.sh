#!/bin/bash
# A lease of a GPU put to use: what training needs is set up once, then `micro-all` is trained and distilled, and both
# releases are packed for a way back that takes few files. The same command goes on where it stopped, on the same machine.
#
#     bash runs/gpu/lease.sh MINUTES_OF_TRAINING MINUTES_OF_DISTILLING [--launched …]
#
# First a minute of each (`lease.sh 1 0.5`): whether micro-steps can be recorded shows there. If they cannot, `--launched`.
# `data/` holds packs (luggage.py), wheels, and `like/` with tokenizer.json and bodies.json of weights/micro-all.
set -u
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2 SELFFLOW_DATA=/tmp/packs PYTHONPATH=/tmp/site:src
train=$1 distil=$2; shift 2
if [ ! -d /tmp/packs ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target /tmp/site data/wheels/*.whl
    python3 runs/gpu/luggage.py unpack --packs data/packs --out /tmp/packs | tail -1
fi
python3 runs/gpu/micro_all.py --out /tmp/all --like data/like --cache /dev/shm/drawn --minutes "$train" --carry /tmp/release "$@" 2>&1 |
    grep -v "left out of the mixture" | tail -30
gzip -kc /tmp/all/metrics.jsonl > "$OUT/metrics.gz"
tar c -C /tmp release | split -b 15M - "$OUT/release."      # cat release.* | tar x
[ "$distil" = 0 ] && exit
[ "$train" = 0 ] || rm -rf /tmp/few      # of another teacher
python3 runs/gpu/distil.py --model /tmp/release --out /tmp/few --cache /dev/shm/drawn --minutes "$distil" --samples 0 --carry /tmp/few-release "$@" 2>&1 |
    grep -v "left out of the mixture" | tail -30
gzip -kc /tmp/few/metrics.jsonl > "$OUT/few.gz"
tar c -C /tmp few-release | split -b 15M - "$OUT/few."
