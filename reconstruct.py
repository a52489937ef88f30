"""Turn a recording of a spike camera into pictures or a video.

    python reconstruct.py REC.dat                                       # writes results/REC.mp4
    python reconstruct.py REC.dat --output DIR --start 0.1s --stop 0.2s --stride 7
    python reconstruct.py REC.dat --output X.npy --method tfi --stride 1
    python reconstruct.py REC.dat --inspect                             # describes it, in results/REC_inspect.png
    python reconstruct.py REC.dat --report                              # also writes a page, results/REC.html
    torchrun --nproc_per_node 2 reconstruct.py REC.dat --output X.mp4   # each process does a share
    python reconstruct.py A.dat B.dat FOLDER --slowmo 100 --output 'DIR/{name}.mp4'          # several, with one model
    zcat REC.dat.gz | python reconstruct.py - --height 250 --width 400 --output X.mp4

REC: `.dat` (also gzipped), `.npy` or `.npz` with spikes (T, H, W), a folder of them, a pattern, or - for
standard input. OUTPUT: X.mp4 (H.264), X.avi (Motion JPEG), X.gif, X.npy (N, H, W), X.tif, a folder of PNGs
named by step, or X.png for one moment. Only the steps of a window are in memory. The same command resumes
after an interruption. Dark recordings are brightened and their steps binned; a line says by how much.
--exposure 1 and --bin 1 turn this off.
"""

from pathlib import Path

from swinsf.utils import choices, cli, flags
from swinsf.utils.timing import MOST_BIN, STEPS

METHODS = ("swinsf", "tfp", "tfi")
BIN = "number of steps per bin; auto: more for darker recordings (default auto; 1 for tfp and tfi)"
OUTPUT = "(default: results/{name}.mp4)"
EXPOSURE = (
    "gain of the grey levels; auto: bright pixels become white; batch: one gain for all recordings, set by the "
    "brightest (default auto; 1 with --rate, --bits 16 or 32)"
)
WEIGHTS = f"weights: a file, a run's folder, or one of {', '.join(choices.SHIPPED)} (default: the shipped ones for recordings)"


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        "recordings",
        nargs="+",
        metavar="REC",
        help="recording: a .dat (also .gz), .npy or .npz file, a folder, a pattern, or - for standard input",
    )
    flag(
        "--output",
        type=Path,
        help="file to write: X.mp4, X.avi (browsers do not play it), X.gif, X.npy, X.tif, X.png (one moment), "
        "or a folder of PNGs; {name}: the recording's name " + OUTPUT,
    )
    flag("--overwrite", action="store_true", help="replace an existing output")
    flag("--height", type=flags.side, help="height of a .dat file (default: detected)")
    flag("--width", type=flags.side, help="width of a .dat file (default: detected)")
    flag(
        "--flip",
        type=flags.truth,
        help="whether steps are stored upside down, True or False (default: as usual for the size)",
    )
    flag(
        "--bit_order",
        choices=choices.BIT_ORDERS,
        help="bit order of a .dat file: which bit of a byte comes first (default: detected)",
    )
    flag(
        "--start",
        type=flags.moment,
        help="first step to show, or a time such as 0.5s or 20ms (default: the first possible)",
    )
    flag("--stop", type=flags.moment, help="step or time to stop before (default: the end)")
    flag("--crop", type=flags.part, metavar="Y0:Y1,X0:X1", help="rows and columns to show (default: all)")
    flag("--stride", type=flags.moment, help="steps or time between pictures (default 20)")
    flag(
        "--steps_per_second",
        type=flags.number(float, 1, 1e7),
        default=20000.0,
        help="speed of the camera, in steps per second (default 20000)",
    )
    flag("--fps", type=flags.number(float, 0.1, 1e7), help="pictures per second of the video (default 25)")
    flag(
        "--slowmo",
        type=flags.number(float, 1e-3, 1e9),
        help="factor by which the video is slower than real time; sets the stride, with --fps",
    )
    flag("--method", default="swinsf", choices=METHODS, help="method of reconstruction (default swinsf)")
    flag("--ends", action="store_true", help="also show the first and last steps, from mirrored windows")
    flag("--beside", choices=("tfp",), help="show TFP (over --window steps) left of each picture")
    flag("--bin", type=flags.word_or(flags.number(int, 1, MOST_BIN), "auto"), default="auto", help=BIN)
    flag("--load_model", type=Path, help=WEIGHTS)
    flag(
        "--outputs",
        default="middle",
        choices=("middle", "all"),
        help="outputs of the network to use; all: three pictures per pass, with --stride 1 or 7 (default middle)",
    )
    flag(
        "--calibration", type=Path, help="the camera's calibration, a file from calibrate.py (default: none)"
    )
    flag(
        "--repair",
        default="auto",
        choices=choices.REPAIRS,
        help="repair of bad pixels; auto: fill them from their neighbours (default auto)",
    )
    flag(
        "--window",
        type=flags.number(int, 1, 10**6),
        default=STEPS,
        help=f"number of (binned) steps that tfp averages (default {STEPS})",
    )
    flag(
        "--precision",
        default="auto",
        choices=("auto", *choices.PRECISIONS),
        help="precision of the network (default auto: bf16 for shipped weights if it is fast, else fp32)",
    )
    flag(
        "--tile",
        type=flags.count,
        default=0,
        help="largest side of the tiles that pictures are cut into, in pixels; 0: no tiles (default 0)",
    )
    flag("--batch_size", type=flags.batch_size, default=1, help="number of windows in a batch (default 1)")
    flag("--device", help="device: cpu, cuda:0, cuda:1, ... (default: cuda if there is one)")
    flag(
        "--gamma",
        type=flags.number(float, 0.1, 10),
        default=1.0,
        help="gamma of the pictures: grey levels are raised to the power 1/gamma (default 1)",
    )
    flag("--exposure", type=flags.word_or(flags.number(float, 1e-3, 1e4), "auto", "batch"), help=EXPOSURE)
    flag("--rate", type=flags.rate, help="firing rate of white, in spikes per step (default 0.6)")
    flag(
        "--bits",
        type=int,
        default=8,
        choices=(8, 16, 32),
        help="bits per grey level: 8, 16 (PNGs, .tif, .npy) or 32 (floats; .tif, .npy) (default 8)",
    )
    flag("--stamp", action="store_true", help="write step and time into each picture")
    flag(
        "--inspect",
        action="store_true",
        help="only describe the recording, and write an overview PNG",
    )
    flag(
        "--bad_pixels",
        type=Path,
        metavar="FILE.csv",
        help="file for a table of bad pixels (row, column, spikes per step, kind), with --inspect",
    )
    flag("--report", action="store_true", help="write an HTML page with the methods side by side")
    flag(
        "--compare",
        type=flags.named_folder,
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="folder of another method's pictures to show on the page",
    )
    return parser.parse_args(arguments)


def look():
    """Parse the flags and check their paths, for `cli.begin`."""
    settings = parse_settings(None)
    for recording in settings.recordings:
        choices.look_at_recording(recording)
    choices.look_at_weights(settings.load_model)
    choices.look_at_calibration(settings.calibration)


if __name__ == "__main__":
    cli.begin(look)  # before the slow imports

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
