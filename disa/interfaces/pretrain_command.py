"""`disa pretrain-clip`: settings as text -> a run folder with a small CLIP."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from disa.pretraining.clip_training import PretrainConfig, pretrain
from disa.running.devices import choose_device
from disa.running.interruption import INTERRUPTED
from disa.training.settings import by_name, changed


def run(
    out: Path, *, steps: int | None, seed: int, settings: Sequence[str], resume: bool, device: str
) -> None:
    """Train CLIP on picturebook's captions; None keeps the bundled model's number of steps.

    `settings` are "name=value" for any field of `PretrainConfig`. Exits with 130 after an interruption. Raises
    `DisaError`.
    """
    changes = {"seed": str(seed)} | ({} if steps is None else {"steps": str(steps)})
    config = changed(PretrainConfig(), changes | by_name(settings))
    where = str(choose_device(device))
    clip = pretrain(config, out, resume=resume, device=where)
    if clip is None:
        raise typer.Exit(INTERRUPTED)
    words = ["disa", "train", "mini", "--clip", str(clip), "--out", str(out.with_name("mini"))]
    typer.echo(f"CLIP is in {clip}; go on with: {shlex.join(words)}")
