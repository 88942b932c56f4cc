"""A CLIP from its files: a transformers folder, or tensors under OpenAI's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.backbone import Backbone
from disa.recipes import BASELINE
from disa.running.files import read_json
from disa.weights.names import CONFIG, PARTS, WHOLE
from disa.weights.openai import from_openai, openai_config
from disa.weights.tensor_files import check_shapes, in_32_bit, read_safetensors, read_torch_file

# Tokens a side at which CLIPs for pictures of 224 pixels and more are used [B].
GRID = 24


def load_clip(source: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return `CLIPConfig` data and state dict, in 32 bit whatever the file holds (decision D52).

    `source` is a folder that transformers' `save_pretrained` wrote, or OpenAI's file, whose
    activation is always QuickGELU. Raises `DisaError` for missing, damaged or partial files and for
    other kinds of model.
    """
    source = Path(source)
    if source.is_dir():
        return read_clip_config(source), _folder_weights(source)
    config, state = _openai_file(source)
    return config, in_32_bit(from_openai(state))


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
    """Return `CLIPConfig` data of a folder, or of OpenAI's file from the shapes in it."""
    if source.is_file():
        return _openai_file(source)[0]
    path = source / CONFIG
    config = read_json(path, "copy the whole CLIP folder")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise DisaError(f"{path}: model_type is {kind!r}, expected 'clip'")
    return config


def dense_config(clip: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration of a CLIP that is used alone.

    CLIPs for pictures of 224 pixels and more get the baseline's 24 x 24 tokens, smaller ones their
    own grid. The guidance blocks are the baseline's, though a CLIP alone does not use them.
    """
    # Configurations may leave out what are transformers' defaults.
    vision = clip.get("vision_config") or {}
    native = vision.get("image_size", 224)
    patch = vision.get("patch_size", 32)
    depth = vision.get("num_hidden_layers", 12)

    size = GRID * patch if native >= 224 else native // patch * patch
    config = ModelConfig(
        dict(clip), backbone_image_size=size, backbone_guidance_blocks=guidance_blocks(depth)
    )
    return config.replace(**BASELINE)


def guidance_blocks(depth: int) -> tuple[int, int]:
    """Return the blocks to tap, at one and two thirds: (3, 7) of 12, (7, 15) of 24 [B]."""
    return max(0, depth // 3 - 1), max(0, 2 * depth // 3 - 1)


def weight_parts(index: Path) -> list[str]:
    """Return the names of the files that hold the weights, from the index that lists them."""
    data = read_json(index, "copy the whole CLIP folder")
    try:
        # A name alone, so that an index cannot lead out of the folder.
        return sorted({Path(part).name for part in data["weight_map"].values()})
    except (KeyError, TypeError, AttributeError):
        raise DisaError(f"{index}: lists no files of weights; copy it again") from None


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
    return in_32_bit(_read_torch_tensors(path))


def _read_torch_tensors(path: Path) -> dict[str, Tensor]:
    state = read_torch_file(path)
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise DisaError(f"{path}: holds other things than tensors by name; it is no CLIP")
    return state


def _openai_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and the weights under OpenAI's names."""
    state = _read_torch_tensors(path)
    try:
        config = openai_config(state)
    except DisaError as error:
        raise DisaError(f"{path}: {error}") from None
    return {"model_type": "clip", **config}, state
