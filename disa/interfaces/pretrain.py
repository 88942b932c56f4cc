"""`disa pretrain-clip`: settings as text -> a run folder with a small CLIP."""

from collections.abc import Sequence
from pathlib import Path

import typer

from disa.errors import DisaError
from disa.inference.bundle import choose_device
from disa.training.pretrain import PretrainConfig, pretrain
from disa.training.settings import changed


def run(
    out: Path, *, steps: int | None, seed: int, settings: Sequence[str], resume: bool, device: str
) -> None:  # fmt: skip
    """Train CLIP on picturebook's captions; None keeps the bundled model's number of steps.

    `settings` are "name=value" for any field of `PretrainConfig`. Raises `DisaError`.
    """
    changes = {"seed": str(seed)} | ({} if steps is None else {"steps": str(steps)})
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise DisaError(f"--set {setting}: write name=value, such as vision_width=192")
        changes[name] = value
    clip = pretrain(changed(PretrainConfig(), changes), out, choose_device(device), resume)
    typer.echo(f"CLIP is in {clip}; go on with: disa train mini --clip {clip} --out {out.with_name('mini')}")
