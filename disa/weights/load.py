"""From a model's name, folder, file or Hub id to its network and its tokenizer."""

from os import PathLike
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from disa.config import ModelConfig
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.model.encoders import build_backbone
from disa.running.devices import usual_defaults
from disa.weights.clip_files import dense_config, fill_clip, load_clip, read_clip_config
from disa.weights.exported import ExportedModel, load_exported
from disa.weights.fetching import model_folder
from disa.weights.model_folder import build, load_disa, read_config, try_out
from disa.weights.names import is_clip, is_export, tokenizer_of
from disa.weights.tokenizer import encoder_tokenizer


class Loaded(NamedTuple):
    """A model, in evaluation mode and 32 bit on the CPU, and the tokenizer it was trained with."""

    model: Disa | DenseClip | ExportedModel
    tokenizer: Tokenizer


@usual_defaults()
def load(name_or_folder: str | PathLike[str]) -> Loaded:
    """Return the model of that name, folder, file or Hub id (`fetching.model_folder`).

    Raises `DisaError` for an unknown model, a damaged or foreign file, and a Hub that cannot be
    reached.
    """
    path = model_folder(name_or_folder)
    model: Disa | DenseClip | ExportedModel
    if is_clip(path):
        model = load_dense_clip(path)
    elif is_export(path):
        model = load_exported(path)
    else:
        model = load_disa(path)
    # Another model's tokenizer gives wrong embeddings and no error, so it is checked here.
    return Loaded(model, encoder_tokenizer(tokenizer_of(path), model.config.backbone_clip))


def load_processing(name_or_folder: str | PathLike[str]) -> tuple[ModelConfig, Tokenizer]:
    """Return the configuration and tokenizer of a model, whose weights are not read.

    Raises `DisaError` as `load` does.
    """
    path = model_folder(name_or_folder)
    config = dense_config(read_clip_config(path)) if is_clip(path) else read_config(path)
    return config, encoder_tokenizer(tokenizer_of(path), config.backbone_clip)


def load_dense_clip(source: str | Path) -> DenseClip:
    """Return a CLIP, in any form that `clip_files.load_clip` reads, as a model of its own."""
    clip, state = load_clip(source)
    # Built without memory: the file's own tensors become the backbone's.
    config = dense_config(clip)
    model = build(Path(source), lambda: DenseClip(build_backbone(config), config))
    fill_clip(model.backbone, state, Path(source))
    try_out(Path(source), model.eval())
    return model


def disa_on_clip(config: ModelConfig, source: str | Path) -> Disa:
    """Return a fresh head on a CLIP, whose own configuration replaces `backbone_clip`."""
    clip, state = load_clip(source)
    model = Disa(config.replace(backbone_clip=clip))
    fill_clip(model.backbone, state, Path(source))
    return model
