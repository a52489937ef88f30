"""The flags of test.py."""

import argparse
from pathlib import Path

from swinsf.utils import choices, cli, flags
from swinsf.utils.timing import KEY_IDS


def parse_settings(arguments: list[str] | None, description: str | None = None) -> argparse.Namespace:
    parser = cli.Parser(description)
    flag = parser.add_argument
    flag(
        "--data_mode",
        default="250",
        choices=choices.DATA_MODES,
        help="size and layout of the data (default 250)",
    )
    flag(
        "--dataset_path",
        default="demo",
        help="dataset folder; photos:DIR, videos:DIR or frames:DIR for simulated scenes; or demo (default)",
    )
    flag("--split", default="test", choices=choices.SPLITS, help="part of the dataset (default test)")
    flag(
        "--key_id",
        type=int,
        help=f"picture to score if a stream has several: {', '.join(map(str, KEY_IDS))}",
    )
    flag(
        "--flip",
        type=flags.truth,
        help="whether streams are stored upside down, True or False (default: as usual in the dataset)",
    )
    flag(
        "--rate",
        type=flags.rate,
        help="firing rate of white, in spikes per step (default: as recorded or measured, 0.6 without pictures)",
    )
    flag("--load_model", type=Path, help="weights file (default: the shipped one for such data)")
    flag(
        "--precision",
        default="fp32",
        choices=choices.PRECISIONS,
        help="precision of the layers between spikes and pictures (default fp32)",
    )
    flag(
        "--tf32",
        action="store_true",
        help="use TF32 for float32 products and convolutions on CUDA: faster, off by 0.3 grey levels",
    )
    flag(
        "--calibration",
        type=Path,
        help="the camera's calibration, by calibrate.py, for streams without ground truth (default: none)",
    )
    flag(
        "--tile",
        type=flags.count,
        default=0,
        help="largest side of the tiles that pictures are cut into; 0: whole (default 0)",
    )
    flag(
        "--compile",
        action="store_true",
        help="run the blocks through torch.compile, for CUDA; slower on a CPU",
    )
    flag("--device", help="device: cpu, cuda:0, cuda:1, ... (default: cuda if there is one)")
    flag("--save_path", type=Path, help="folder of the results (default: results/ and the dataset's name)")
    flag("--overwrite", action="store_true", help="replace the results of another dataset")
    flag(
        "--save_image",
        nargs="?",
        type=flags.truth,
        const=True,
        default=True,
        help="whether to write the PNGs, True or False (default True)",
    )
    flag(
        "--protocol",
        default="released",
        choices=choices.PROTOCOLS,
        help="how PSNR and SSIM are computed (default released)",
    )
    flag("--lpips", action="store_true", help="score LPIPS, too, by the package lpips (needs ground truth)")
    flag(
        "--niqe_params",
        type=Path,
        default=choices.PRISTINE,
        help="file of NIQE's pristine statistics, .npz or .mat (default: our own)",
    )
    flag("--report", action="store_true", help="write report.html, a page with the methods side by side")
    flag(
        "--compare",
        type=flags.named_folder,
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="folder of another method's pictures, with our file names: one more column",
    )
    flag(
        "--method",
        type=flags.named_function,
        action="append",
        default=[],
        metavar="NAME=MODULE:FUNCTION",
        help="function of spikes (B, 41, H, W) -> grey levels (B, H, W), or an nn.Module: one more column",
    )
    flag("--workers", type=flags.workers, default=1, help="number of processes that read streams (default 1)")
    return parser.parse_args(arguments)


def look(description: str | None) -> None:
    """Check flags and the paths in them; `cli.begin` calls this before the slow imports."""
    settings = parse_settings(None, description)
    choices.look_at_weights(settings.load_model)
    choices.look_at_calibration(settings.calibration)
    choices.look_at_dataset(settings.dataset_path)
