"""`disa models`: the models that come with the package."""

import typer

from disa.errors import DisaError
from disa.inference.catalogue import WEIGHTS, models


def run() -> None:
    """Print name, size, knowledge and place of each bundled model. Raises `DisaError` if there is none."""
    entries = models()
    if not entries:
        raise DisaError(f"{WEIGHTS}: no model here; install disa again, or train one (disa train --help)")
    for entry in entries:
        typer.echo(f"{entry.name}  {entry.size / 1e6:.1f} MB\n  knows: {entry.knows}\n  where: {entry.folder}")
    typer.echo("Any folder with model.safetensors, config.json and tokenizer.json is a model, too: --model FOLDER")
