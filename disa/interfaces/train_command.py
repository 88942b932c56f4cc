"""`disa train`: a recipe's name and changes as text -> a run folder with a model."""

import shlex
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.recipes import RECIPES
from disa.running.interruption import INTERRUPTED
from disa.running.processes import is_first
from disa.training.initial_weights import RANDOM
from disa.training.loop import train
from disa.training.samples import PICTUREBOOK, Source, dataset_source
from disa.training.settings import TrainConfig, by_name, changed, recipe_settings, settable
from disa.weights.names import model_folder


def run(
    recipe: str,
    out: Path,
    *,
    dataset: str,
    data: Path | None,
    split: str | None,
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
    """Train a recipe on picturebook or a data set on disk; None keeps the recipe's own number.

    `settings` are "name=value" for any field of `ModelConfig` or `TrainConfig`. Exits with 130 after an interruption.
    Raises `DisaError`.
    """
    # RMSNorm of bf16 by 32-bit weights takes torch's slower path, and says so once: nothing a user could mend
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
    if recipe not in RECIPES:
        raise DisaError(f'unknown recipe "{recipe}"; use one of {", ".join(RECIPES)}')
    model_changes, training_changes = split_changes(settings)
    config = changed(RECIPES[recipe](), model_changes)
    given: dict[str, Any] = {"steps": steps, "batch": batch, "lr": lr, "seed": seed}
    training = replace(
        recipe_settings(recipe),
        **{name: value for name, value in given.items() if value is not None},
    )
    training = changed(training, training_changes)
    source = _source(dataset, data, split)
    start = None if init is None else model_folder(init)
    begin = None if clip is None else RANDOM if clip == str(RANDOM) else model_folder(clip)
    trained = train(
        config, training, out, begin, start, source=source, resume=resume, device=device
    )
    if trained is None:
        raise typer.Exit(INTERRUPTED)
    if not is_first():
        return
    typer.echo(
        f"trained {training.steps} step{'s' * (training.steps > 1)}; the model is in {trained}"
    )
    if source is not PICTUREBOOK:
        words = ["disa", "evaluate", dataset, "--data", str(data), "--model", str(trained)]
        typer.echo(f"measure it: {shlex.join(words)}")


def _source(dataset: str, data: Path | None, split: str | None) -> Source:
    """Return what to train on. Raises `DisaError` for options that contradict each other and unusable data."""
    if dataset == PICTUREBOOK.name:
        if data is not None or split is not None:
            raise DisaError(
                "picturebook is drawn, not read: leave out --data and --split, or name another --dataset"
            )
        return PICTUREBOOK
    if data is None:
        raise DisaError(
            f"{dataset} needs --data DIR, the folder that holds it; disa data list shows what it looks like"
        )
    return dataset_source(dataset, data, split or "train")


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
