"""Run the cells of a notebook and save their outputs, text and PIL pictures. Jupyter is not needed.

    python -m tools.notebook docs/tour.ipynb

The cells share their variables and run in a temporary folder. A cell's last value is shown, as in Jupyter.
"""

import ast
import base64
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write

HOME = Path(__file__).resolve().parent.parent
PLACE = "PATH/TO/SwinSF"  # the project's folder in the cells


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    parser.add_argument("notebook", type=Path, help=".ipynb file, whose outputs are replaced")
    return parser.parse_args(arguments)


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(notebook):
    """Run a notebook's code cells in the current folder and set their outputs. Returns the names they define.

    notebook: the contents of an .ipynb file, as a dict.
    """
    names = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(notebook), 1):
        lines, last = ast.parse("".join(cell["source"]).replace(PLACE, str(HOME))), None
        if lines.body and isinstance(lines.body[-1], ast.Expr):
            last = ast.Expression(lines.body.pop().value)
        printed, value = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True), None
        with contextlib.redirect_stdout(printed):
            exec(compile(lines, f"cell {number}", "exec"), names)
            if last:
                value = eval(compile(last, f"cell {number}", "eval"), names)
        cell["execution_count"] = number
        cell["outputs"] = list(outputs(number, printed.buffer.getvalue().decode(), value))
    return names


def outputs(number, printed, value):
    """The outputs of a cell, as entries of an .ipynb file."""
    if printed:
        text = printed.replace(str(HOME), PLACE).splitlines(keepends=True)
        yield {"output_type": "stream", "name": "stdout", "text": text}
    if value is None:
        return
    data = {"text/plain": [repr(value).split(" at 0x")[0]]}
    if hasattr(value, "_repr_jpeg_"):
        data["image/jpeg"] = base64.b64encode(value._repr_jpeg_()).decode()
    yield {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}


def main(arguments=None):
    path = parse_settings(arguments).notebook.resolve()
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a notebook ({cli.one_line(error)}); name an .ipynb file") from None
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            run_cells(notebook)
        finally:
            os.chdir(here)
    with atomic_write(path, "w") as file:
        json.dump(notebook, file, indent=1, ensure_ascii=False)
        file.write("\n")
    cli.log(f"{path}: ran {len(code_cells(notebook))} cells")


if __name__ == "__main__":
    cli.run(main)
