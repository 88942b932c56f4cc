"""`disa models`: the models that come with the package, and those that are fetched by name."""

import typer

from disa.errors import DisaError
from disa.weights.names import PUBLISHED, WEIGHTS, models


def run() -> None:
    """Print name, size, knowledge and place of each model. Raises `DisaError` if none comes with the package."""
    entries = models()
    if not entries:
        raise DisaError(
            f"{WEIGHTS}: no model here; install disa again, or train one (disa train --help)"
        )
    for entry in entries:
        typer.echo(
            f"{entry.name}  {entry.size / 1e6:.1f} MB\n  knows: {entry.knows}\n  where: {entry.folder}"
        )
    for name, published in PUBLISHED.items():
        place = "/".join(part for part in (published.repository, published.checkpoint) if part)
        typer.echo(
            f"{name}  fetched when first used\n  knows: {published.knows}\n  where: {place} on the Hub"
        )
    typer.echo(
        "--model also takes a folder that disa or transformers (CLIP) wrote, OpenAI's .pt, or a Hub id. No weights of "
        "DiSa on photographs exist in public; docs/training.md says how to train them."
    )
