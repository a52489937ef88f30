#!/usr/bin/env bash
# versions: PyAV 18.1.0, numpy 2.4.6
# date:     2026-11-30
# guess:    The psnr filter of FFmpeg gives the same for grey pictures, whether they come as gray or as yuv420p.
# seen:     As yuv420p the luma alone gets 1.2 dB more, because 0..255 becomes 16..235 but the peak stays 255. The
#           average that FFmpeg prints counts the colour planes, too, which are equal: 3.0 dB more, and 6.0 dB as
#           yuv444p.
# output:
#     from the definition: 35.58
#     gray: luma 35.58, average 35.58
#     yuv420p: luma 36.81, average 38.57
#     yuv444p: luma 36.81, average 41.58
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    av==18.1.0 numpy==2.4.6 || exit 2
venv/bin/python - <<'EOF'
import av
import numpy as np
from av.filter import Graph

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

rows, columns = np.mgrid[:250, :400]
truth = 130 + 60 * np.sin(columns / 9) * np.cos(rows / 13) + 0.1 * columns
truth = truth.round().astype(np.uint8)
mean = fire(0.6 * truth / 255, 41).mean(0)  # TFP; 0.6 spikes a step are white
picture = (mean / 0.6 * 255).round().clip(0, 255).astype(np.uint8)

def psnr(pix_fmt):
    graph = Graph()
    filter = graph.add("psnr")
    sources = []
    for port in range(2):
        sources.append(graph.add_buffer(width=400, height=250, format="gray", time_base="1/25"))
        convert = graph.add("format", pix_fmt)
        sources[port].link_to(convert)
        convert.link_to(filter, 0, port)
    filter.link_to(graph.add("buffersink"))
    graph.configure()
    for source, array in zip(sources, (truth, picture)):
        frame = av.VideoFrame.from_ndarray(array, "gray")
        frame.pts = 0
        source.push(frame)
        source.push(None)
    found = graph.pull().metadata
    return [float(found[f"lavfi.psnr.psnr{part}"]) for part in (".y", "_avg")]

error = np.mean((truth.astype(float) - picture) ** 2)
right = 10 * np.log10(255**2 / error)
print(f"from the definition: {right:.2f}")
found = {pix_fmt: psnr(pix_fmt) for pix_fmt in ("gray", "yuv420p", "yuv444p")}
for pix_fmt, (luma, average) in found.items():
    print(f"{pix_fmt}: luma {luma:.2f}, average {average:.2f}")
assert abs(found["gray"][1] - right) < 0.01
for pix_fmt, planes in (("yuv420p", 1.5), ("yuv444p", 3)):
    luma, average = found[pix_fmt]
    assert 1 < luma - right < 1.6 and abs(average - luma - 10 * np.log10(planes)) < 0.01
EOF
