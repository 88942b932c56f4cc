"""A model as a folder: written whole, and checked before memory is taken."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.backbone import set_finetune
from disa.model.count import parameters
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.running.files import prepare_folder, read_json, replace_file, write_json
from disa.weights.model_card import Source, model_card
from disa.weights.names import CONFIG, EXPORT, KIND, TOKENIZER, WHOLE
from disa.weights.tensor_files import first_line, read_safetensors

WEIGHTS = WHOLE[0]
CARD = "README.md"
FORMAT = 1
# More than any CLIP has.
MOST_LAYERS = 200
# Configurations of OpenAI's CLIP name this id; transformers then takes the highest id as the end.
LEGACY_END = 2

Model = TypeVar("Model", bound=nn.Module)


def save(
    model: Disa | DenseClip,
    folder: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    source: Source | None = None,
) -> None:
    """Write `model.safetensors`, a model card, `config.json` and, if given, `tokenizer.json`.

    Each file appears whole or not at all, with the values in the model's own type. A CLIP alone is
    written as transformers does it. `source` is where converted weights come from. Raises
    `DisaError` if the disk refuses.
    """
    folder = Path(folder)
    prepare_folder(folder)
    try:
        if tokenizer is not None:
            text = tokenizer.to_str(pretty=True)
            replace_file(folder / TOKENIZER, lambda path: path.write_text(text, encoding="utf-8"))
        # The configuration comes last: a folder without it is not a model yet.
        if isinstance(model, Disa):
            _write_disa(model, folder, source)
        else:
            model.backbone.clip.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DisaError(
            f"{folder}: cannot write the model ({reason}); free space or choose another folder"
        ) from error


def _write_disa(model: Disa, folder: Path, source: Source | None) -> None:
    # Copies, because safetensors refuses tensors that share memory.
    tensors = {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {"format": "pt"}
    replace_file(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata=metadata))

    card = model_card(model.config, parameters(model), source)
    replace_file(folder / CARD, lambda path: path.write_text(card, encoding="utf-8"))

    data = {"format": FORMAT, "kind": KIND, "model": model.config.to_dict()}
    write_json(folder / CONFIG, data, indent=2)


def load_disa(folder: str | Path) -> Disa:
    """Return the network that `save` wrote, in evaluation mode and 32 bit.

    Raises `DisaError` for a missing or damaged file, and for weights of another configuration.
    """
    folder = Path(folder)
    config = read_config(folder)
    model = build(folder, lambda: Disa(config), config)
    # The network has shapes and no values yet, so the file's own tensors take their place.
    model.load_state_dict(read_safetensors(folder / WEIGHTS, model.state_dict()), assign=True)
    model.backbone.restore_buffers()
    set_finetune(model.backbone, config.backbone_finetune)
    return model.eval()


def read_config(folder: str | Path) -> ModelConfig:
    """Return the configuration in a model folder.

    Raises `DisaError` naming the file and what is wrong with it.
    """
    path = Path(folder) / CONFIG
    data = read_json(path, f"give a folder that holds {CONFIG} and {WEIGHTS}")
    is_disa = isinstance(data, dict) and data.get("kind") in (KIND, EXPORT)
    if not is_disa or not isinstance(data.get("model"), dict):
        raise DisaError(
            f"{path}: not the configuration of a disa model; give a folder written by disa"
        )
    if data.get("format") != FORMAT:
        raise DisaError(
            f"{path}: format {data.get('format')!r}, this version reads {FORMAT}; install a "
            "matching disa"
        )
    try:
        return ModelConfig.from_dict(data["model"])
    except DisaError as error:
        raise DisaError(f"{path}: {error}") from error
    except TypeError as error:  # fields of the wrong type, where types are checked
        raise _unbuildable(path, error) from error


def build(folder: str | Path, make: Callable[[], Model], config: ModelConfig) -> Model:
    """Return `make()` on the meta device: no memory is taken.

    Raises `DisaError` if the numbers fit no network.
    """
    path = Path(folder) / CONFIG
    try:
        # A damaged number could ask for millions of layers, each of which takes time to build.
        towers = [
            config.backbone_clip[tower]["num_hidden_layers"]
            for tower in ("vision_config", "text_config")
        ]
        if max(*towers, config.saliency_layers, config.refine_levels) > MOST_LAYERS:
            raise DisaError(
                f"{path}: more than {MOST_LAYERS} layers; the file is damaged, copy it again"
            )
        with torch.device("meta"):
            return make()
    except DisaError:
        raise
    # transformers and torch raise many kinds for numbers that fit no network.
    except Exception as error:
        raise _unbuildable(path, error) from error


def load_tokenizer(path: Path, end_id: int, vocabulary: int) -> Tokenizer:
    """Read the tokenizer of a model that knows `vocabulary` tokens and ends texts with `end_id`.

    Raises `DisaError` if the file is missing, damaged or another model's.
    """
    if not path.is_file():
        raise DisaError(f"{path}: no such file; copy the whole model folder")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises plain `Exception`
        raise DisaError(f"{path}: is not a tokenizer ({first_line(error)})") from None
    # The text encoder pads and checks lengths itself; a file may ask for either.
    tokenizer.no_padding()
    tokenizer.no_truncation()

    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vocabulary:
        raise DisaError(
            f"{path}: has token {highest}, the model knows {vocabulary} tokens; "
            "is it another model's?"
        )
    if end_id == LEGACY_END:
        end_id = vocabulary - 1
    last = tokenizer.encode("a").ids[-1:]
    if last != [end_id]:
        raise DisaError(
            f"{path}: ends texts with token {last}, the model expects {end_id}; "
            "is it another model's?"
        )
    return tokenizer


def _unbuildable(path: Path, error: Exception) -> DisaError:
    return DisaError(
        f"{path}: no network can be built from it ({first_line(error)}); copy the model folder "
        "again"
    )
