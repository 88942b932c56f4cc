"""The names, options and help of `disa train`, `pretrain-clip`, `picturebook`; each imports its `run` when called."""

from pathlib import Path
from typing import Annotated

import typer

from disa.interfaces.options import Device

training = typer.Typer(rich_markup_mode="markdown")


@training.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="What to train: `mini`, `mini-baseline`, ... (a function of disa/recipes.py)."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for checkpoints, log and, at the end, the model."),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            help="What to train on: `picturebook`, `coco-stuff`, another of `disa data list`, or `folder`."
        ),
    ] = "picturebook",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the official trees side by side, or with your own data set."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which part of the data set. Default: train.")
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            help="The CLIP to start from: a folder of `disa pretrain-clip` or of transformers, OpenAI's .pt, "
            "`clip-vit-b-16` and the like, or a Hub id. `random`: none, for a dry run of a recipe with `--steps 2`."
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from this trained model instead of a CLIP.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps. Default: the recipe's.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images per step. Default: the recipe's.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=0, help="Learning rate of the head. Default: the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and of the order of the scenes.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a field of the model or of the training: `saliency_split=relative`, `clip_lr_scale=0.1`, "
            "`ema=0.999`, ...; may be repeated.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the last checkpoint in OUT, if there is one.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Train a segmentation model; interrupt it with Ctrl-C and run it again to go on.

    Examples:

    - `disa train mini --clip runs/clip/clip --out runs/mini`

    - `disa train mini --clip runs/clip/clip --out runs/soft --set saliency_split=soft --steps 2000`

    - `disa train vit-l-14 --clip clip-vit-l-14-336 --dataset coco-stuff --data datasets --out runs/disa-l`

    - `disa train mini --init mini --dataset folder --data my-pictures --out runs/mine`

    - `torchrun --nproc-per-node 8 -m disa train vit-l-14 ...`: eight GPUs share every batch; docs/training.md says more
    """
    from disa.interfaces.train_command import run

    run(
        recipe=recipe,
        out=out,
        dataset=dataset,
        data=data,
        split=split,
        clip=clip,
        init=init,
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        settings=set_ or [],
        resume=resume,
        device=device,
    )


@training.command("pretrain-clip")
def pretrain_clip(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for checkpoints and, at the end, the CLIP.")
    ],
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimiser steps. Default: those of the bundled model."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and pictures.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a field of the run: `vision_width=192`; may be repeated."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the last checkpoint in OUT, if there is one.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Train the tiny CLIP of the bundled model from scratch on picturebook's captions.

    Example: `disa pretrain-clip --out runs/clip`, then `disa train mini --clip runs/clip/clip --out runs/mini`
    """
    from disa.interfaces.pretrain_command import run

    run(out=out, steps=steps, seed=seed, settings=set_ or [], resume=resume, device=device)
