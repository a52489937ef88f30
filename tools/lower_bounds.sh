#!/usr/bin/env bash
# Try the lower bounds of requirements.txt:
#
#     tools/lower_bounds.sh          # in a temporary environment of 6 GB, which is removed
#     tools/lower_bounds.sh DIR      # keeps the environment in DIR for the next time
#
# It scores the demo, simulates a stream, reconstructs it with text in 16 bits, and trains a compiled step.
# These releases need Python 3.10 to 3.12; PYTHON names one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
place=${1:-$work/environment}

usable() { "$@" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }
for python in ${PYTHON:-python3.10 python3.11 python3.12 python3}; do
  usable "$python" && break
  python=
done
[ "$python" ] || { echo "error: no Python 3.10 to 3.12 here; set PYTHON to one" >&2; exit 2; }

# What the scripts import: the lines before those for `make test`. torch>=2.4 becomes torch==2.4.*.
sed '/^# For/,$d; s/#.*//; /^$/d; s/>=\([0-9.]*\) */==\1.*/' requirements.txt >"$work/bounds.txt"
if ! cmp -s "$work/bounds.txt" "$place/bounds.txt"; then
  "$python" -m venv "$place"
  "$place/bin/pip" install --quiet --disable-pip-version-check -r "$work/bounds.txt"
  cp "$work/bounds.txt" "$place/bounds.txt"
fi

try() {
  echo "$ $*"
  "$place/bin/python" "$@"
}
photos=$work/demo # its pictures serve as photographs
try test.py --device cpu --save_path "$photos"
try -c 'import json, sys; assert json.load(open(sys.argv[1]))["means"]["SwinSF"]["psnr"] > 37' "$photos/metrics.json"
try simulate.py --source "photos:$photos" --save_path "$work/streams" --split test --count 1
stream=$(echo "$work"/streams/test/input/*.dat)
try reconstruct.py "$stream" --device cpu --stride 100 --bits 16 --stamp --output "$work/pictures"
try -c 'import cv2, sys; assert cv2.imread(sys.argv[1], -1).dtype == "uint16"' "$work/pictures/00000120.png"
try reconstruct.py "$stream" --device cpu --method tfp --report --output "$work/video.mp4"
compile=$(command -v g++ >/dev/null && echo --compile || true)
try train.py --dataset_path "photos:$photos" --variant small --recipe modern --crop_size 20 --batch_size 2 \
  --epoch_length 2 --max_steps 1 --val_every 0 --device cpu --save_path "$work/runs" --run_name one $compile
try -m pip check
echo "the lower bounds work: $("$place/bin/python" --version), $(tr '\n' ' ' <"$work/bounds.txt")"
