"""`disa convert`: somebody else's checkpoint -> a model folder."""

from pathlib import Path

import typer

from disa.errors import DisaError
from disa.inference.convert import convert_catseg, sha256_of
from disa.inference.published import LICENCE, tokenizer_beside
from disa.model.card import Source

KINDS = ("cat-seg",)


def run(kind: str, checkpoint: Path, out: Path, *, tokenizer: Path | None) -> None:
    """Convert a checkpoint. Raises `DisaError`; nothing is written then."""
    if kind not in KINDS:
        raise DisaError(f'unknown kind of checkpoint "{kind}"; use {", ".join(KINDS)}')
    if not checkpoint.is_file():
        raise DisaError(f"{checkpoint}: no such file; CAT-Seg publishes model_base.pth and model_large.pth")
    source = Source("CAT-Seg", checkpoint.name, LICENCE, sha256_of(checkpoint))
    convert_catseg(checkpoint, out, tokenizer or tokenizer_beside(checkpoint), source)
    typer.echo(f"{out}: written; sha256 of the checkpoint {source.sha256}")
