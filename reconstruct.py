"""Turn a recording of a spike camera into pictures or a video.

    python reconstruct.py REC.dat                                       # results/REC.mp4, by the shipped weights
    python reconstruct.py REC.dat --output DIR --start 0.1s --stop 0.2s --stride 7
    python reconstruct.py REC.dat --output X.npy --method tfi --stride 1
    python reconstruct.py REC.dat --inspect                             # what it is like, and results/REC_inspect.png
    python reconstruct.py REC.dat --report                              # and a page to look at, results/REC.html
    torchrun --nproc_per_node 2 reconstruct.py REC.dat --output X.mp4   # each process takes a share
    python reconstruct.py A.dat B.dat FOLDER --slowmo 100 --output 'DIR/{name}.mp4'          # several, with one model
    zcat REC.dat.gz | python reconstruct.py - --height 250 --width 400 --output X.mp4

REC: `.dat` (also in gzip), `.npy` or `.npz` of spikes (T, H, W), a folder of them, a pattern, or - for
standard input. OUTPUT: X.mp4 (H.264), X.avi (Motion JPEG), X.gif, X.npy (N, H, W), X.tif, a folder of PNGs
named by their steps, or X.png of one moment. Only what a window needs is in memory. The same command resumes where an interrupted one
stopped. Dark recordings are brightened, and their steps are binned: a line says what was chosen,
and --exposure 1 and --bin 1 leave that out.
"""

from pathlib import Path

from swinsf.utils import choices, cli
from swinsf.utils.timing import STEPS

METHODS = ("swinsf", "tfp", "tfi")
BIN = "steps a bin, more for darker recordings, or auto (default auto; 1 for tfp and tfi)"
OUTPUT = "(default: results/{name}.mp4)"
EXPOSURE = (
    "gain on the grey levels; auto: bright pixels become white; batch: one gain for all recordings, by the brightest "
    "(default auto; 1 with --rate, --bits 16 or 32)"
)
WEIGHTS = f"a weights file, a run's folder, or one of {', '.join(choices.SHIPPED)} (default: the shipped ones for recordings)"


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        "recordings",
        nargs="+",
        metavar="REC",
        help="a .dat (also .gz), .npy or .npz file, a folder, a pattern, or -",
    )
    flag(
        "--output",
        type=Path,
        help="X.mp4, X.avi (no browser plays it), X.gif, X.npy, X.tif, X.png (one moment) or a folder of PNGs, "
        "{name} for the recording's name " + OUTPUT,
    )
    flag("--overwrite", action="store_true", help="replace an output that is there")
    flag("--height", type=cli.side, help="of a .dat file's steps (default: found out from the file)")
    flag("--width", type=cli.side, help="of a .dat file's steps (default: found out from the file)")
    flag(
        "--flip",
        type=cli.truth,
        help="whether steps are stored upside down, True or False (default: goes by the sensor)",
    )
    flag(
        "--bit_order",
        choices=choices.BIT_ORDERS,
        help="the bit of a byte that is first (default: found out; mostly little)",
    )
    flag(
        "--start",
        type=cli.moment,
        help="first step to show, or a time such as 0.5s or 20ms (default: the first there is)",
    )
    flag("--stop", type=cli.moment, help="step or time to end before (default: the end)")
    flag("--crop", type=cli.part, metavar="Y0:Y1,X0:X1", help="rows and columns to show (default: all)")
    flag("--stride", type=cli.moment, help="steps or time from one picture to the next (default 20)")
    flag(
        "--steps_per_second",
        type=cli.number(float, 1, 1e7),
        default=20000.0,
        help="of the camera (default 20000)",
    )
    flag("--fps", type=cli.number(float, 0.1, 1e7), help="pictures a second of the video (default 25)")
    flag(
        "--slowmo",
        type=cli.number(float, 1e-3, 1e9),
        help="times slower than life; the stride follows from it and --fps",
    )
    flag("--method", default="swinsf", choices=METHODS, help="how pictures are made (default swinsf)")
    flag("--ends", action="store_true", help="pictures up to the first and last step, by mirrored windows")
    flag("--beside", choices=("tfp",), help="show TFP (over --window steps) left of each picture")
    flag("--bin", type=cli.word_or(cli.number(int, 1, 1000), "auto"), default="auto", help=BIN)
    flag("--load_model", type=Path, help=WEIGHTS)
    flag(
        "--outputs",
        default="middle",
        choices=("middle", "all"),
        help="all: three pictures a pass, with --stride 1 or 7",
    )
    flag(
        "--calibration",
        type=Path,
        help="the camera's, by calibrate.py: dark charge, response, bad pixels (default: none)",
    )
    flag(
        "--repair",
        default="auto",
        choices=choices.REPAIRS,
        help="auto: fill bad pixels from their neighbours (default auto)",
    )
    flag(
        "--window",
        type=cli.number(int, 1, 10**6),
        default=STEPS,
        help=f"steps of tfp, after --bin (default {STEPS})",
    )
    flag(
        "--precision",
        default="auto",
        choices=("auto", *choices.PRECISIONS),
        help="of the layers from spikes to pictures (default auto: bf16 for shipped weights if it is fast, else fp32)",
    )
    flag(
        "--tile",
        type=cli.count,
        default=0,
        help="largest side of the tiles to cut pictures into; 0: whole (default 0)",
    )
    flag(
        "--batch_size",
        type=cli.batch_size,
        default=1,
        help="windows that the network sees at a time (default 1)",
    )
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag(
        "--gamma",
        type=cli.number(float, 0.1, 10),
        default=1.0,
        help="grey levels to the power of 1/gamma (default 1)",
    )
    flag("--exposure", type=cli.word_or(cli.number(float, 1e-3, 1e4), "auto", "batch"), help=EXPOSURE)
    flag("--rate", type=cli.rate, help="spikes a step that are white (default 0.6)")
    flag(
        "--bits",
        type=int,
        default=8,
        choices=(8, 16, 32),
        help="of a grey level: 16 in PNGs, .tif and .npy, 32 for floats in .tif and .npy",
    )
    flag("--stamp", action="store_true", help="write its step and time into each picture")
    flag(
        "--inspect",
        action="store_true",
        help="say what the recording is like, and make a sheet of pictures, a PNG, no more",
    )
    flag(
        "--bad_pixels",
        type=Path,
        metavar="FILE.csv",
        help="with --inspect: a table of the bad pixels, row, column, spikes a step and kind",
    )
    flag("--report", action="store_true", help="write a page that shows the methods side by side")
    flag(
        "--compare",
        type=cli.named_folder,
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="pictures for the page",
    )
    return parser.parse_args(arguments)


def look():
    """`cli.begin` of this script: parse the flags and look at the paths that they name."""
    settings = parse_settings(None)
    for recording in settings.recordings:
        choices.look_at_recording(recording)
    choices.look_at_weights(settings.load_model)
    choices.look_at_calibration(settings.calibration)


if __name__ == "__main__":
    cli.begin(look)  # before the imports that take seconds

from swinsf.recordings.batch import inspect_all, list_jobs, reconstruct_all
from swinsf.utils.allocator import tune_allocator
from swinsf.utils.distributed import broadcast, pick_device, processes, set_tf32


def main(arguments=None):
    settings = parse_settings(arguments)
    device = pick_device(settings.device)
    set_tf32(False)
    with processes() as (rank, size):
        batch = broadcast(list_jobs(settings, size) if rank == 0 else None)
        if not settings.inspect:
            return reconstruct_all(batch, device, rank, size)
        return inspect_all(batch) if rank == 0 else 0


if __name__ == "__main__":
    tune_allocator()
    cli.run(main)
