#!/bin/bash
# A lease of a GPU put to use: what training needs is set up once, then `micro-all` is trained and distilled, and both
# releases are packed for a way back that takes few files. The same command goes on where it stopped, on the same machine.
#
#     bash runs/gpu/lease.sh MINUTES_OF_TRAINING MINUTES_OF_DISTILLING [--launched …]
#
# First a minute of each (`lease.sh 1 0.5`): whether micro-steps can be recorded shows there. If they cannot, `--launched`.
# Everything is kept under LEASE (/tmp by default), the samples drawn under DRAWN (/dev/shm/drawn); OUT comes back.
# Words are printed by none of it (`--wordless`): what prints cannot be recorded, and is quickly learned afterwards.
# `data/` holds packs (luggage.py), wheels, and `like/` with tokenizer.json and bodies.json of weights/micro-all.
set -u
usage="give minutes of training and of distilling: lease.sh 7 2"
train=${1:?$usage} distil=${2:?$usage}; shift 2
lease=${LEASE:-/tmp} drawn=${DRAWN:-/dev/shm/drawn}
: "${OUT:?name the folder that is brought back}"
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2 SELFFLOW_DATA=$lease/packs PYTHONPATH=$lease/site:src
if [ ! -d "$lease/packs" ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$lease/site" data/wheels/*.whl
    python3 runs/gpu/luggage.py unpack --packs data/packs --out "$lease/packs" | tail -1
fi
python3 runs/gpu/micro_all.py --wordless --out "$lease/all" --like data/like --cache "$drawn" --minutes "$train" --carry "$lease/release" "$@" 2>&1 |
    grep -v "left out of the mixture" | tail -30
gzip -kc "$lease/all/metrics.jsonl" > "$OUT/metrics.gz"
tar c -C "$lease" release | split -b 15M - "$OUT/release."      # cat release.* | tar x
[ "$distil" = 0 ] && exit
[ "$train" = 0 ] || rm -rf "$lease/few"      # of another teacher
python3 runs/gpu/distil.py --model "$lease/release" --out "$lease/few" --cache "$drawn" --minutes "$distil" --samples 0 --carry "$lease/few-release" "$@" 2>&1 |
    grep -v "left out of the mixture" | tail -30
gzip -kc "$lease/few/metrics.jsonl" > "$OUT/few.gz"
tar c -C "$lease" few-release | split -b 15M - "$OUT/few."
