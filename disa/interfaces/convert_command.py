"""`disa convert`: somebody else's checkpoint -> a model folder."""

from pathlib import Path

import typer

from disa.errors import DisaError
from disa.running.files import file_sha256
from disa.weights.conversion import convert_catseg
from disa.weights.fetching import LICENCE
from disa.weights.model_card import Source
from disa.weights.tokenizer_file import tokenizer_beside

KINDS = ("cat-seg",)


def run(kind: str, checkpoint: Path, out: Path, *, tokenizer: Path | None) -> None:
    """Convert a checkpoint. Raises `DisaError`; nothing is written then."""
    if kind not in KINDS:
        raise DisaError(f'unknown kind of checkpoint "{kind}"; use {", ".join(KINDS)}')
    if not checkpoint.is_file():
        raise DisaError(
            f"{checkpoint}: no such file; CAT-Seg publishes model_base.pth and model_large.pth"
        )
    source = Source("CAT-Seg", checkpoint.name, LICENCE, file_sha256(checkpoint))
    given = tokenizer is not None
    unfit = convert_catseg(
        checkpoint, out, tokenizer or tokenizer_beside(checkpoint), source, must_fit=given
    )
    typer.echo(f"{out}: written; sha256 of the checkpoint {source.sha256}")
    if unfit is not None:  # no published model, and nobody here knows the words it was trained with
        typer.echo(
            f"warning: {out} has no tokenizer.json yet, copy the right one there: {unfit}", err=True
        )
