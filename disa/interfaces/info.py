"""`disa info`: what a model consists of and what a picture costs; nothing is computed, so it is quick for any size."""

import json
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.inference.catalogue import model_folder, models
from disa.model import pretrained
from disa.model.count import operations, parameters
from disa.model.disa import Disa
from disa.recipes import RECIPES


def run(model: str, *, labels: int, size: int | None, as_json: bool) -> None:
    """Print parameters and operations by part. Raises `DisaError` for an unknown model."""
    data = facts(model, labels, size)
    if as_json:
        typer.echo(json.dumps(data, indent=2))
        return
    table = Table("part", "parameters", "share", "operations", title=data["model"], title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    total = data["parameters"]["total"]
    for part, number in data["parameters"].items():
        if part == "total":
            table.add_section()
        flops = data["operations"][part] / 1e9
        table.add_row(part, f"{number / 1e6:,.3f} M", f"{number / total:.1%}", f"{flops:,.2f} GFLOP")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{total / 1e6:,.1f} million parameters in all.", soft_wrap=True)
    console.print(
        f"Operations: one picture of {data['size']} x {data['size']} pixels with {labels} labels; "
        "CLIP text counts once per set of labels.",
        soft_wrap=True,
    )


def facts(model: str, labels: int, size: int | None) -> dict[str, Any]:
    """Return what `disa info --json` prints: parameters and operations by part, with their totals."""
    config = _config(model)
    with torch.device("meta"):
        counted = parameters(Disa(config))
    return {
        "model": model,
        "parameters": counted,
        "total_millions": round(counted["total"] / 1e6, 3),
        "labels": labels,
        "size": size or config.backbone_image_size,
        "operations": operations(config, labels, size),
    }


def _config(model: str) -> ModelConfig:
    """Return the configuration of a bundled model, a folder (it may differ from the recipe) or a recipe."""
    if model in RECIPES and model not in [entry.name for entry in models()]:
        return RECIPES[model]()
    try:
        folder = model_folder(model)
    except DisaError as error:
        raise DisaError(f"{error}; or a recipe: {', '.join(RECIPES)}") from None
    return pretrained.read_config(folder)
