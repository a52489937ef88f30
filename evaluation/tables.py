"""Results on disk and on the screen: pictures, tables, figures. All files are written atomically."""

import csv
import hashlib
import json
import math
import platform
import re
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from swinsf.evaluation.metrics import to_bytes
from swinsf.utils.files import atomic_write

METRICS = "metrics.json"
Row = dict[str, Any]  # {"name": stream, method: {figure: value}}
# Fonts with Chinese, Japanese and Korean characters on common systems.
FONTS = (
    *(
        "Noto Sans CJK SC",
        "Noto Sans CJK JP",
        "Source Han Sans SC",
        "WenQuanYi Micro Hei",
        "WenQuanYi Zen Hei",
        "Droid Sans Fallback",
    ),
    *("Microsoft YaHei", "SimHei", "PingFang SC", "Heiti SC", "Hiragino Sans GB", "Arial Unicode MS"),
)
ZOOM = 3  # enlargement of the patch in the comparison figure


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write grey levels (H, W), clamped to 0..255 and truncated to bytes, as PNG."""
    _, data = cv2.imencode(".png", to_bytes(picture))
    with atomic_write(path) as file:
        file.write(data.tobytes())


def mean_figures(rows: list[Row]) -> dict[str, dict[str, float]]:
    """method -> {figure: mean over the rows}."""
    methods = [key for key in rows[0] if key != "name"]
    return {
        m: {figure: float(np.mean([row[m][figure] for row in rows])) for figure in rows[0][m]}
        for m in methods
    }


def format_table(rows: list[Row], steps: dict[str, int] | None = None, protocol: str = "") -> str:
    """A text table of PSNR / SSIM (/ LPIPS) or NIQE: a row per stream and one of means, a column per method.

    steps: name -> scored step, counted from 1, for the heading. protocol: its name, for the heading.
    """

    def cell(figures):
        if "niqe" in figures:
            return f"{figures['niqe']:.3f}"
        text = f"{figures['psnr']:.2f} / {figures['ssim']:.3f}"
        return f"{text} / {figures['lpips']:.3f}" if "lpips" in figures else text

    methods = [key for key in rows[0] if key != "name"]
    names = rows[0][methods[0]]
    kind = "NIQE" if "niqe" in names else "PSNR / SSIM / LPIPS" if "lpips" in names else "PSNR / SSIM"
    kind = protocol if kind in protocol else f"{kind} ({protocol})" if protocol else kind
    scored = sorted({steps[row["name"]] for row in rows}) if steps else []
    if scored:
        kind += f" at step {scored[0]}" if len(scored) == 1 else f" at steps {scored[0]} to {scored[-1]}"
    lines = [[kind, *methods]]
    lines += [[row["name"], *(cell(row[method]) for method in methods)] for row in rows]
    lines.append([f"mean of {len(rows)}", *(cell(figures) for figures in mean_figures(rows).values())])
    head, rule, *body, mean = text_table(lines)
    return "\n".join([head, rule, *body, rule, mean])


def text_table(lines: list[list[str]]) -> list[str]:
    """Lists of cells -> lines of text, a rule below the first. The first column is aligned left."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))])
        for line in lines
    ]
    return [text[0], "-" * len(text[0]), *text[1:]]


def write_metrics(
    folder: Path,
    rows: list[Row],
    main_method: str,
    about: dict[str, Any],
    steps: dict[str, int] | None = None,
) -> None:
    """metrics.csv: names, figures of the main method, figures of the others. metrics.json: means, count,
    about.

    steps: name -> scored step, counted from 1, for a last column.
    """
    others = [key for key in rows[0] if key not in ("name", main_method)]
    methods, figures = (main_method, *others), list(rows[0][main_method])
    head = ["name", *figures, *(f"{method}_{figure}" for method in others for figure in figures)]
    with atomic_write(folder / "metrics.csv", "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*head, "step"] if steps else head)
        for row in rows:
            cells = [row["name"], *(row[method][figure] for method in methods for figure in figures)]
            writer.writerow([*cells, steps[row["name"]]] if steps else cells)
    contents = {"means": mean_figures(rows), "count": len(rows), **about}
    with atomic_write(folder / METRICS, "w") as file:
        json.dump(plain(contents), file, indent=1)


def plain(value: Any, nan: str | None = None, inf: str = "inf") -> Any:
    """The value with `nan` and `inf` for numbers that JSON lacks, such as the PSNR of equal pictures."""
    if isinstance(value, dict):
        return {key: plain(inner, nan, inf) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, nan, inf) for inner in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return nan if math.isnan(value) else inf if value > 0 else f"-{inf}"


def device_name(device: torch.device) -> str:
    """The name of a device, for a table of figures."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        re.findall(r"model name\s*: (.+)", cpuinfo.read_text("utf-8", "replace")) if cpuinfo.exists() else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def sha256(path: Path) -> str:
    return sha256_of(path.read_bytes())


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sharpest_patch(picture: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """(top, left) of the height x width patch with the most detail."""
    detail = np.abs(cv2.Laplacian(picture.astype(np.float32), cv2.CV_32F))
    energy = cv2.boxFilter(detail, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    energy = energy[: picture.shape[0] - height + 1, : picture.shape[1] - width + 1]
    return np.unravel_index(np.argmax(energy), energy.shape)


def save_figure(path: Path, figure: Any) -> None:
    """Write a matplotlib figure as PNG. Characters without a font on this system show as boxes."""
    from matplotlib import rcParams  # slow to import
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    fonts = [
        *rcParams["font.sans-serif"][:1],
        *[name for name in FONTS if name in {font.name for font in fontManager.ttflist}],
    ]
    for text in figure.findobj(Text):
        text.set_fontfamily(fonts)
    with atomic_write(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(file, format="png", dpi=110)


def comparison_figure(path: Path, streams: list[tuple[str, dict[str, np.ndarray]]]) -> None:
    """Plot a row per stream and a column per picture, with its most detailed patch enlarged in a corner.

    streams: (name, {title: (H, W) grey levels}), all with the same titles. The last one sets the patch.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    titles = list(streams[0][1])
    height, width = streams[0][1][titles[0]].shape
    size = 3.2
    figure = Figure((size * len(titles), size * height / width * len(streams) + 0.4), layout="constrained")
    axes = figure.subplots(len(streams), len(titles), squeeze=False)
    for row, (name, pictures) in zip(axes, streams):
        patch = (height // 6, width // 6)
        top, left = sharpest_patch(pictures[titles[-1]], *patch)
        for axis, title in zip(row, titles):
            picture = to_bytes(pictures[title])
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axis.add_patch(
                Rectangle((left, top), patch[1], patch[0], fill=False, color="tab:red", linewidth=1)
            )
            # the corner farthest from the patch
            corner = (
                0.0 if left + patch[1] / 2 > width / 2 else 1 - ZOOM / 6,
                0.0 if top < height / 2 else 1 - ZOOM / 6,
            )
            inset = axis.inset_axes((*corner, ZOOM / 6, ZOOM / 6))
            inset.imshow(picture[top : top + patch[0], left : left + patch[1]], cmap="gray", vmin=0, vmax=255)
            inset.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
            inset.spines[:].set_color("tab:red")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, fontsize=7, parse_math=False)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title)
    save_figure(path, figure)


def learning_curves(path: Path, runs: dict[str, list[list[dict[str, float]]]]) -> None:
    """Plot validation PSNR against iterations.

    runs: name of weights -> lines of log.jsonl for each run that led to them. A run continues the count of
    the run before, after a gap in the line.
    """
    from matplotlib.figure import Figure

    figure = Figure((7, 3.5), layout="constrained")
    axis = figure.subplots()
    for name, logs in runs.items():
        points, before = [], 0
        for lines in logs:
            points += [(before + line["step"], line["val_psnr"]) for line in lines if "val_psnr" in line]
            points.append((np.nan, np.nan))
            before += lines[-1]["step"] if lines else 0
        axis.plot(*np.reshape(points, (-1, 2)).T, marker="o", markersize=3, label=name)
    axis.set(xlabel="iterations", ylabel="validation PSNR, dB")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper")  # beside the curves
    save_figure(path, figure)
