"""`disa train`: a recipe's name and changes as text -> a run folder with a model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.inference.bundle import choose_device
from disa.inference.catalogue import model_folder
from disa.interfaces.cli import INTERRUPTED
from disa.recipes import RECIPES
from disa.training.segmentation import train
from disa.training.settings import TrainConfig, by_name, changed, recipe_settings, settable


def run(
    recipe: str,
    out: Path,
    *,
    clip: str | None,
    init: str | None,
    steps: int | None,
    batch: int | None,
    lr: float | None,
    seed: int,
    settings: Sequence[str],
    resume: bool,
    device: str,
) -> None:
    """Train a recipe on picturebook; None keeps the recipe's own number.

    `settings` are "name=value" for any field of `ModelConfig` or `TrainConfig`. Exits with 130 after an interruption.
    Raises `DisaError`.
    """
    if recipe not in RECIPES:
        raise DisaError(f'unknown recipe "{recipe}"; use one of {", ".join(RECIPES)}')
    model_changes, training_changes = split_changes(settings)
    config = changed(RECIPES[recipe](), model_changes)
    given: dict[str, Any] = {"steps": steps, "batch": batch, "lr": lr, "seed": seed}
    training = replace(recipe_settings(recipe), **{name: value for name, value in given.items() if value is not None})
    training = changed(training, training_changes)
    start, source = (None if name is None else model_folder(name) for name in (init, clip))
    trained = train(config, training, out, source, start, resume=resume, device=str(choose_device(device)))
    if trained is None:
        raise typer.Exit(INTERRUPTED)
    typer.echo(f"trained {training.steps} steps; the model is in {trained}")


def split_changes(settings: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Sort "name=value" texts into changes of the model and of the training. Raises `DisaError` for unknown names."""
    model, training = settable(ModelConfig), settable(TrainConfig)
    changes: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for name, value in by_name(settings).items():
        if name not in (*model, *training):
            known = ", ".join(sorted((*model, *training)))
            raise DisaError(f"--set {name}={value}: no such setting; known are {known}")
        changes[0 if name in model else 1][name] = value
    return changes
