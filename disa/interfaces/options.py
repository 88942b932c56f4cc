"""Options that several commands take, and how they explain themselves."""

from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        help="A name of `disa models`, a model folder, a CLIP, or an id on the Hugging Face Hub."
    ),
]
Device = Annotated[
    str, typer.Option(help="auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.")
]
