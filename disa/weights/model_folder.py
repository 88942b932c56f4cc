"""A model as a folder: written whole, and checked before memory is taken."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.backbone import set_finetune
from disa.model.count import parameters
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.running.files import prepare_folder, replace_file, write_json, writing
from disa.running.reading import misfit, read_json
from disa.weights.clip_files import MOST_LAYERS, check_clip
from disa.weights.model_card import Source, model_card
from disa.weights.names import CONFIG, KIND, TOKENIZER, WHOLE
from disa.weights.tensor_files import first_line, read_safetensors

WEIGHTS = WHOLE[0]
CARD = "README.md"
FORMAT = 1
AGAIN = "copy the model folder again"
LONGEST_SIDE = 8192  # pixels that a model may see
MOST = 2**20  # of channels, labels and the like

Model = TypeVar("Model", Disa, DenseClip)


class Described(TypedDict):
    """What `config.json` says."""

    format: int
    kind: Literal["disa", "disa-export"]  # `KIND` or `EXPORT`
    model: dict[str, Any]


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
    with writing(folder, refusals=(OSError, SafetensorError)):
        if tokenizer is not None:
            save_tokenizer(tokenizer, folder)
        # The configuration comes last: a folder without it is not a model yet.
        if isinstance(model, Disa):
            _write_disa(model, folder, source)
        else:
            model.backbone.clip.save_pretrained(folder)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json`."""
    text = tokenizer.to_str(pretty=True)
    replace_file(folder / TOKENIZER, lambda path: path.write_text(text, encoding="utf-8"))


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

    # The model type is for transformers.
    about = {"format": FORMAT, "kind": KIND, "model_type": KIND}
    data = about | {"model": model.config.to_dict()}
    write_json(folder / CONFIG, data, indent=2)


def load_disa(folder: str | Path) -> Disa:
    """Return the network that `save` wrote, in evaluation mode and 32 bit.

    Raises `DisaError` for a missing or damaged file, and for weights of another configuration.
    """
    folder = Path(folder)
    config = read_config(folder)
    model = build(folder / CONFIG, lambda: Disa(config))
    # The network has shapes and no values yet, so the file's own tensors take their place.
    model.load_state_dict(read_safetensors(folder / WEIGHTS, model.state_dict()), assign=True)
    model.backbone.restore_buffers()
    set_finetune(model.backbone, config.backbone_finetune)
    try_out(folder / CONFIG, model.eval())
    return model


def read_config(folder: str | Path) -> ModelConfig:
    """Return the configuration in a model folder.

    Raises `DisaError` naming the file and what is wrong with it.
    """
    path = Path(folder) / CONFIG
    data: Described = read_json(path, "give a folder written by disa", Described)
    if data["format"] != FORMAT:
        raise DisaError(
            f"{path}: format {data['format']}, this version reads {FORMAT}; install a matching disa"
        )
    # Retired fields are read by `from_dict`, which names unknown ones, too.
    forms = get_type_hints(ModelConfig)
    for name, value in data["model"].items():
        fault = misfit(value, forms.get(name, object), f"model.{name}")
        if fault is not None:
            raise DisaError(f"{path}: {fault}; {AGAIN}")
    try:
        config = ModelConfig.from_dict(data["model"])
    except DisaError as error:
        raise DisaError(f"{path}: {error}") from error
    check_config(path, config)
    return config


def check_config(path: Path, config: ModelConfig) -> None:
    """Raise `DisaError` that names `path` for numbers that would take hours or all memory."""
    check_clip(path, config.backbone_clip)
    layers = max(config.saliency_layers, config.refine_levels)
    # Pairs of numbers are the decoder's channels and CLIP's blocks.
    values = vars(config).values()
    numbers = chain(*(value if isinstance(value, tuple) else (value,) for value in values))
    largest = max(number for number in numbers if isinstance(number, int))
    if layers > MOST_LAYERS or config.backbone_image_size > LONGEST_SIDE or largest > MOST:
        raise DisaError(
            f"{path}: more than {MOST_LAYERS} layers, {LONGEST_SIDE} pixels or {MOST:,} of "
            f"anything; {AGAIN}"
        )


def build(path: Path, make: Callable[[], Model]) -> Model:
    """Return `make()` on the meta device: no memory is taken.

    Raises `DisaError` that names `path` if the numbers fit no network.
    """
    with _no_network(path), torch.device("meta"):
        return make()


def try_out(path: Path, model: Disa | DenseClip) -> None:
    """Send the smallest picture and text through a network.

    Raises `DisaError` that names `path` if its numbers fit no network.
    """
    # The rules that numbers must keep stand in many places; to try them is to know them all.
    side = 2 * model.backbone.patch_size
    prompts = len(model.config.backbone_templates)
    with _no_network(path), torch.inference_mode(), next(model.parameters()).device:
        text = model.encode_text(torch.zeros(1, 1, dtype=torch.long))
        model(torch.zeros(1, 3, side, side), text.expand(2, prompts, -1))


@contextmanager
def _no_network(path: Path) -> Iterator[None]:
    """Turn what transformers and torch raise for numbers that fit no network into `DisaError`."""
    try:
        yield
    except Exception as error:  # of many kinds
        raise DisaError(
            f"{path}: no network can be built from it ({first_line(error)}); {AGAIN}"
        ) from error
