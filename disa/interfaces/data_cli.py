"""The names, options and help of `disa data ...`. What the commands do is in `data.py`, imported when one is called."""

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Name = Annotated[
    str, typer.Argument(help="A data set that `disa data list` shows, or `folder` for your own.")
]
Root = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="The folder that holds the unpacked archives side by side; or your own."
    ),
]
Split = Annotated[str, typer.Option(help="`val`, or `train` where there is one.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")]


@data.callback()
def data_command() -> None:
    """Get the published data sets, and folders of your own, from archives to checked label maps.

    The order: `disa data list a150` (what to download, how to unpack it), `disa data prepare`, `disa data check`,
    then `disa evaluate`.
    """


@data.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Show this one only.")] = None,
) -> None:
    """Show each data set: official page, terms, expected files, disk space.

    Example: `disa data list pc59`
    """
    from disa.interfaces.data_command import show

    show(name)


@data.command()
def check(name: Name, root: Root, split: Split = "val", workers: Workers = None) -> None:
    """Read every picture and mask of a data set, count what is in them, and say what is wrong, file by file.

    Exit code 2 if anything is wrong, the number of images included.

    Examples:

    - `disa data check a150 datasets`

    - `disa data check folder my-photos --split train`
    """
    from disa.interfaces.data_command import run_check

    run_check(name, root, split, workers)


@data.command()
def prepare(name: Name, root: Root, split: Split = "val", workers: Workers = None) -> None:
    """Convert what cannot be read quickly: `a847`, `pc59` and `pc459`, once. Interrupt it and run it again to go on.

    The result goes to DIR/disa-prepared/NAME/SPLIT; the official files stay as they are.

    Example: `disa data prepare pc459 datasets`
    """
    from disa.interfaces.data_command import run_prepare

    run_prepare(name, root, split, workers)


@data.command()
def labels(
    name: Name,
    root: Root,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the label maps; made if need be.")
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N images.")] = None,
    split: Split = "val",
    workers: Workers = None,
) -> None:
    """Write the label maps as evaluation sees them: OUT/ID.png, a label's index per pixel.

    Ignored pixels are 255; in `a847` and `pc459` they are 65535, in 16 bits.

    Example: `disa data labels coco-stuff datasets --out seen --limit 20`
    """
    from disa.interfaces.data_command import run_labels

    run_labels(name, root, out, limit, split, workers)
