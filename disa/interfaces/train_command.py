"""`disa train` and `disa pretrain-clip`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from tyro import MISSING
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from disa.errors import DisaError
from disa.pretraining.settings import PretrainConfig
from disa.recipes import RECIPES
from disa.running.interruption import INTERRUPTED
from disa.running.lists import split_list
from disa.running.terminal import say
from disa.training.settings import TrainConfig, recipe_settings

if TYPE_CHECKING:
    from disa.config import ModelConfig
    from disa.training.initial_weights import InitialWeights


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a segmentation model; interrupt it with Ctrl-C and run it again to continue.

    `disa train mini --help` shows the settings of `mini` as defaults; other recipes have others.

    Examples:

      disa train mini --clip runs/clip/clip --out runs/mini

      disa train mini --clip runs/clip/clip --out runs/soft --set saliency_split=soft --steps 2000

      disa train vit-l-14 --clip clip-vit-l-14-336 --dataset coco-stuff --data datasets --out runs/l

      disa train mini --init mini --dataset folder --data my-pictures --out runs/mine

      torchrun --nproc-per-node 8 -m disa train vit-l-14 ...   (eight GPUs share every batch)
    """

    recipe: Annotated[Positional[str], arg(help=f"What to train: {', '.join(RECIPES)}.")]
    # Folder for checkpoints, log and, at the end, the model.
    out: Annotated[Path, arg(aliases=["-o"])]
    # What to train on: `picturebook`, a data set of `disa data list` such as `coco-stuff`, or
    # `folder`, your own pictures and masks.
    dataset: str = "picturebook"
    # Folder with the benchmarks' official trees side by side, or with your own data set.
    data: Path | None = None
    # Which part of the data set. Default: train.
    split: str | None = None
    # The CLIP to start from: a folder of `disa pretrain-clip` or of transformers, OpenAI's .pt,
    # `clip-vit-b-16` and the like, or a Hub id. `random`: none, for a dry run with `--steps 2`.
    clip: str | None = None
    # Start from this trained model instead of a CLIP.
    init: str | None = None
    # How to train. Each recipe has its own defaults.
    training: OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    # NAME=VALUE: change a number of the network, such as `saliency_split=relative`
    # (disa/config.py), or any option; may be repeated.
    set: UseAppendAction[tuple[str, ...]] = ()
    # Whether to continue at the last checkpoint in OUT; if not, an OUT with a run is refused.
    resume: bool = True
    # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.
    device: str = "auto"
    # Read options from this YAML or TOML file; those on the command line win.
    config: Path | None = None

    @staticmethod
    def presets(recipe: str) -> "Train":
        """Return the defaults that go with the first argument."""
        defaults = Train(recipe=recipe, out=Path(), training=recipe_settings(recipe))
        # These have no default: tyro asks for them.
        vars(defaults).update(recipe=MISSING, out=MISSING)
        return defaults

    def run(self) -> int:
        """Train. Raises `DisaError`; what can be refused is refused before the first step."""
        from disa.data.dataset import keep_apart
        from disa.running.processes import is_first
        from disa.training.loop import train
        from disa.training.run_folder import RunFolder
        from disa.training.training_data import open_training_data

        if self.recipe not in RECIPES:
            raise DisaError(f'unknown recipe "{self.recipe}"; use one of {", ".join(RECIPES)}')
        network = with_settings(RECIPES[self.recipe](), self.set)
        data = open_training_data(self.dataset, self.data, self.split)
        for dataset in data.opened():
            keep_apart(dataset, self.out)
        folder = RunFolder(self.out, command=self)
        model = train(
            network, self.training, self._weights(), data, folder, self.resume, self.device
        )
        if model is None:
            return INTERRUPTED
        if is_first():
            steps = self.training.steps
            say(f"trained {steps} step{'s' if steps > 1 else ''}; the model is in {model}")
            if self.data is not None:
                evaluate = ["disa", "evaluate", self.dataset, "--data", str(self.data)]
                say(f"measure it: {shlex.join([*evaluate, '--model', str(model)])}")
        return 0

    def _weights(self) -> "InitialWeights":
        from disa.training.initial_weights import RANDOM, InitialWeights
        from disa.weights.fetching import model_folder

        def source(name: str | None) -> Path | None:
            if name is None:
                return None
            return RANDOM if name == str(RANDOM) else model_folder(name)

        return InitialWeights(clip=source(self.clip), init=source(self.init))


@dataclass(frozen=True, kw_only=True)
class PretrainClip:
    """Train the tiny CLIP of the bundled model from scratch on picturebook's captions.

    Examples:

      disa pretrain-clip --out runs/clip

      disa train mini --clip runs/clip/clip --out runs/mini
    """

    # Folder for checkpoints, log and, at the end, the CLIP.
    out: Annotated[Path, arg(aliases=["-o"])]
    # How to train.
    pretraining: OmitArgPrefixes[PretrainConfig] = field(default_factory=PretrainConfig)
    # Whether to continue at the last checkpoint in OUT; if not, an OUT with a run is refused.
    resume: bool = True
    # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.
    device: str = "auto"
    # Read options from this YAML or TOML file; those on the command line win.
    config: Path | None = None

    def run(self) -> int:
        """Train. Raises `DisaError`."""
        from disa.pretraining.clip_training import pretrain
        from disa.training.run_folder import RunFolder

        folder = RunFolder(self.out, command=self)
        clip = pretrain(self.pretraining, folder, self.resume, self.device)
        if clip is None:
            return INTERRUPTED
        train = ["disa", "train", "mini", "--clip", str(clip)]
        out = str(self.out.with_name("mini"))
        say(f"CLIP is in {clip}; train on it with: {shlex.join([*train, '--out', out])}")
        return 0


def with_settings(config: "ModelConfig", texts: tuple[str, ...]) -> "ModelConfig":
    """Return a network's configuration with fields changed by "NAME=VALUE".

    Raises `DisaError` for an unknown field and for a value that is not of its type.
    """
    hints = get_type_hints(type(config))
    # It comes with --clip.
    del hints["backbone_clip"]
    changes: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in hints:
            known = ", ".join(sorted((*hints, *vars(TrainConfig()))))
            raise DisaError(f"--set {text}: no such setting; known are {known}")
        changes[name] = _parsed(name, value, hints)
    return config.replace(**changes)


def _parsed(name: str, text: str, hints: Mapping[str, Any]) -> Any:
    """Return a value of the type that a field has, as tyro reads it from a command line."""
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(hints[name], set()))
    assert isinstance(spec, PrimitiveConstructorSpec)
    # One word holds several values with commas between, where a command line has several words.
    parts = [text] if spec.nargs == 1 else list(split_list(text))
    # `true` as in files of options, not only Python's `True`.
    if spec.choices is not None and spec.nargs == 1:
        parts = [choice for choice in spec.choices if choice.lower() == text.lower()]
    try:
        return spec.instance_from_str(parts)
    except (ValueError, IndexError):
        wanted = " or ".join(spec.choices or ()) or f"{spec.metavar}, with commas between"
        raise DisaError(f"--set {name}={text}: the value must be {wanted}") from None
