"""A CLIP or SigLIP 2 from its files: a transformers folder, or tensors under OpenAI's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.backbone import Backbone
from disa.model.encoders import CLIP, SIGLIP, encoder_config
from disa.recipes import BASELINE
from disa.running.reading import check_form, read_json
from disa.weights.names import CONFIG, PARTS, TOKENIZER, WHOLE
from disa.weights.openai import from_openai, openai_config
from disa.weights.tensor_files import (
    check_shapes,
    first_line,
    in_32_bit,
    named_tensors,
    read_safetensors,
    read_torch_file,
)

AGAIN = "copy the whole CLIP folder again"
# Tokens a side at which CLIPs for pictures of 224 pixels and more are used [B].
GRID = 24
# Several times what any CLIP has; a damaged number could ask for hours or for all memory.
MOST_LAYERS = 200
Layers = Annotated[int, range(1, MOST_LAYERS + 1)]
Size = Annotated[int, range(1, 2**16 + 1)]


class Typed(TypedDict):
    """What tells a dual encoder's configuration from others'."""

    model_type: Literal["clip", "siglip"]


class TextTower(TypedDict):
    """Sizes of the text tower."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Size
    vocab_size: Annotated[int, range(1, 2**24)]
    max_position_embeddings: Size
    eos_token_id: int


class SiglipTextTower(TextTower):
    """The text tower has the projection."""

    projection_size: Size


class VisionTower(TypedDict):
    """Sizes of the image tower."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Size
    num_channels: Literal[3]
    patch_size: Annotated[int, range(1, 257)]
    image_size: Annotated[int, range(1, 8193)]


class SiglipVisionTower(VisionTower):
    """The image tower may lack the head that leads into the space of the text."""

    vision_use_head: NotRequired[Literal[True]]


class Clip(TypedDict):
    """Sizes in `CLIPConfig` data."""

    projection_dim: Size
    text_config: TextTower
    vision_config: VisionTower


class Siglip(TypedDict):
    """Sizes in `SiglipConfig` data."""

    text_config: SiglipTextTower
    vision_config: SiglipVisionTower


FORMS = {CLIP: Clip, SIGLIP: Siglip}


class Index(TypedDict):
    """What lists the parts of large weights: the file of each tensor."""

    weight_map: dict[str, str]


def load_clip(source: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and state dict, in 32 bit whatever the file holds (decision D52).

    `source` is a folder that transformers' `save_pretrained` wrote, or OpenAI's file, whose
    activation is always QuickGELU. Raises `DisaError` for missing, damaged or partial files and for
    other kinds of model.
    """
    source = Path(source)
    if source.is_dir():
        return read_clip_config(source), _folder_weights(source)
    config, state = _openai_file(source)
    return config, in_32_bit(state)


def fill_clip(backbone: Backbone, state: Mapping[str, Tensor], source: Path) -> None:
    """Put CLIP's weights, read from `source`, into a backbone.

    Raises `DisaError` that names the first tensor that does not fit.
    """
    # torch's own message would name every tensor, over pages.
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    check_shapes(source, shapes, backbone.clip.state_dict())
    backbone.clip.load_state_dict(state, assign=True)
    # Buffers that no file holds, such as the numbers of positions, have no values yet.
    backbone.restore_buffers()


def read_clip_config(source: Path) -> dict[str, Any]:
    """Return the configuration of a folder, or of OpenAI's file from the shapes in it."""
    if source.is_file():
        return _openai_file(source)[0]
    path = source / CONFIG
    config: dict[str, Any] = read_json(path, AGAIN, Typed)
    check_clip(path, config)
    return config


def check_clip(path: Path, config: Mapping[str, Any]) -> None:
    """Raise `DisaError` that names `path` for data of which no dual encoder can be built."""
    try:
        # What is left out has defaults, and older files say some fields twice.
        whole = encoder_config(config).to_dict()
    except Exception as error:  # transformers checks fields in many ways
        raise DisaError(f"{path}: describes no CLIP ({first_line(error)}); {AGAIN}") from None
    check_form(whole, FORMS[whole["model_type"]], str(path), AGAIN)


def dense_config(clip: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration of a CLIP that is used alone.

    CLIPs for pictures of 224 pixels and more get the baseline's 24 x 24 tokens, smaller ones their
    own grid. The guidance blocks are the baseline's, though a CLIP alone does not use them.
    """
    vision = encoder_config(clip).vision_config
    patch = vision.patch_size
    native = vision.image_size
    size = GRID * patch if native >= 224 else native // patch * patch
    config = ModelConfig(
        dict(clip),
        backbone_image_size=size,
        backbone_guidance_blocks=guidance_blocks(vision.num_hidden_layers),
    )
    return config.replace(**BASELINE)


def guidance_blocks(depth: int) -> tuple[int, int]:
    """Return the blocks to tap, at one and two thirds: (3, 7) of 12, (7, 15) of 24 [B]."""
    return max(0, depth // 3 - 1), max(0, 2 * depth // 3 - 1)


def weight_parts(index: Path) -> list[str]:
    """Return the names of the files that hold the weights, from the index that lists them."""
    data: Index = read_json(index, AGAIN, Index)
    # A name alone, so that an index cannot lead out of the folder.
    return sorted({Path(part).name for part in data["weight_map"].values()})


def _folder_weights(folder: Path) -> dict[str, Tensor]:
    path = next((folder / name for name in WHOLE + PARTS if (folder / name).is_file()), None)
    if path is None:
        raise DisaError(
            f"{folder}: holds no weights; a CLIP folder has one of {', '.join(WHOLE + PARTS)}"
        )
    if path.name in WHOLE:
        state = _read(path)
    else:
        state = {}
        for part in weight_parts(path):
            state |= _read(folder / part)
    # Older versions of transformers saved position_ids, which are no weights.
    return {name: value for name, value in state.items() if not name.endswith("position_ids")}


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return in_32_bit(named_tensors(path, read_torch_file(path)))


def _openai_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration, and the weights under transformers' names."""
    if path.suffix == ".safetensors":
        raise DisaError(
            f"{path}: weights alone are no model; give the folder with {CONFIG} and {TOKENIZER}"
        )
    state = named_tensors(path, read_torch_file(path))
    try:
        config = {"model_type": "clip", **openai_config(state)}
        renamed = from_openai(state)
    except DisaError as error:
        raise DisaError(f"{path}: {error}") from None
    check_clip(path, config)
    return config, renamed
