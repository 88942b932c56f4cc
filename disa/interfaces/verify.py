"""`disa verify`: this code against golden tensors of the baseline's published code, stage by stage."""

from pathlib import Path

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from disa.errors import DisaError
from disa.evaluation.golden import AGREEMENT, TOLERANCE, Comparison, GoldenSet

KINDS = ("golden",)
DEVIATES = 1
WIDTH = 110


def run(kind: str, folder: Path) -> None:
    """Print a table per golden set in `folder`, or of `folder` itself. Exits with 1 where a stage deviates.

    Raises `DisaError` if there is no golden set.
    """
    if kind not in KINDS:
        raise DisaError(f'unknown kind "{kind}"; use {", ".join(KINDS)}')
    if not folder.is_dir():
        raise DisaError(
            f"{folder}: no such folder; give one with weights.safetensors, io.safetensors and meta.json"
        )
    inside = sorted(path.parent for path in folder.glob("*/meta.json"))
    folders = inside if inside and not (folder / "meta.json").is_file() else [folder]
    console = Console(highlight=False)
    console = (
        console if console.is_terminal else Console(highlight=False, width=WIDTH)
    )  # a file has no width
    deviating = []
    for place in folders:
        compared = list(GoldenSet(place).compare())
        console.print(_table(str(place), compared))
        deviating += [
            f"{place}: {comparison.stage}" for comparison in compared if not comparison.passed
        ]
        if not compared:
            raise DisaError(f"{place}: holds no tensor to compare with")
    wanted = f"within {TOLERANCE:g} of tensors of order 1, best labels equal at {AGREEMENT:.1%} of the pixels at least"
    if deviating:
        console.print(
            f"{len(deviating)} stages deviate ({wanted}): {'; '.join(deviating)}", soft_wrap=True
        )
        raise typer.Exit(DEVIATES)
    console.print(f"every stage agrees: {wanted}", soft_wrap=True)


def _table(title: str, compared: list[Comparison]) -> Table:
    table = Table(title=title, box=box.SIMPLE)
    table.add_column("stage", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    for heading in ("difference", "relative", "equal labels", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in compared:
        shape = " x ".join(map(str, one.shape))
        labels = "" if one.agreement is None else f"{one.agreement:.3%}"
        # labels alone have no difference that means anything
        differences = (
            ("", "")
            if one.stage == "slide.argmax"
            else (f"{one.absolute:.1e}", f"{one.relative:.1e}")
        )
        table.add_row(one.stage, shape, *differences, labels, "ok" if one.passed else "DEVIATES")
    return table
