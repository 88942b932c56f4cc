"""The names, options and help of `disa study ...`. What it does is in `study.py`, imported when it is called."""

from pathlib import Path
from typing import Annotated

import typer

study = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@study.callback()
def study_command() -> None:
    """Repeat the paper's ablation, and the questions of its reviews, on picturebook."""


@study.command()
def ablation(
    clip: Annotated[
        str,
        typer.Option(help="The CLIP that every run starts from: a folder of `disa pretrain-clip`."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for runs, tables and pictures.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each run.")] = 300,
    batch: Annotated[int, typer.Option(min=1, help="Scenes per step.")] = 4,
    scenes: Annotated[int, typer.Option(min=1, help="Test scenes of each measurement.")] = 100,
    seeds: Annotated[
        str, typer.Option(help='Seeds, with commas between. One seed has no spread: "0,1,2".')
    ] = "0,1,2",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each on one core.")] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Runs whose name contains this, and the reference; may be repeated."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of every run: `lr=0.002`; may be repeated."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the runs, done and not; train nothing.")
    ] = False,
) -> None:
    """Train and measure every variant with every seed, then write OUT/study.md and OUT/figures.

    Started again, it skips what is finished and goes on with what was interrupted; Ctrl-C loses nothing. After every
    run OUT/study.md holds the tables so far.

    Examples:

    - `disa study ablation --clip runs/clip/clip --out runs/study --jobs 2`, after `disa pretrain-clip --out runs/clip`

    - `disa study ablation --clip runs/clip/clip --out runs/study --only split --plan`
    """
    from disa.interfaces.study import run

    run(
        clip=clip,
        out=out,
        steps=steps,
        batch=batch,
        scenes=scenes,
        seeds=seeds,
        at_once=jobs,
        only=only or [],
        settings=set_ or [],
        plan=plan,
    )
