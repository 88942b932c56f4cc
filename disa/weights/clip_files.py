"""A CLIP from its files: a transformers folder, or tensors under OpenAI's names.

Weights come as safetensors, in one file or several, or as PyTorch's own files, which run nothing
(torch_file.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.backbone import Backbone
from disa.recipes import BASELINE
from disa.weights.model_folder import check
from disa.weights.openai import from_openai, is_openai, openai_config, widened
from disa.weights.torch_file import read_torch_file

CONFIG = "config.json"
WHOLE = {
    "model.safetensors": load_file,
    "pytorch_model.bin": read_torch_file,
}  # file -> its reader, best first
PARTS = {f"{name}.index.json": read for name, read in WHOLE.items()}
CLIP_FILES = (
    CONFIG,
    "tokenizer.json",
    (*WHOLE, *PARTS),
)  # what a folder holds; of the last group any one
GRID = 24  # tokens a side at which CLIPs for pictures of 224 pixels and more are used [B]


def load_clip(source: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return `CLIPConfig` data and state dict, in 32 bit whatever the file holds (decision D52).

    `source` is a folder that transformers' `save_pretrained` wrote, or OpenAI's file, whose
        activation is always
    QuickGELU. Raises `DisaError` for missing, damaged or partial files and for other kinds of
        model.
    """
    source = Path(source)
    if source.is_dir():
        return _folder_config(source), _folder_weights(source)
    config, state = _openai_file(source)
    return config, widened(from_openai(state))


def fill_clip(backbone: Backbone, state: Mapping[str, Tensor], source: Path) -> None:
    """Put CLIP's weights, read from `source`, into a backbone.

    Raises `DisaError` that names the first tensor that does not fit.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    check(source, shapes, backbone.clip.state_dict())
    backbone.clip.load_state_dict(state, assign=True)
    backbone.restore_buffers()


def read_clip_config(source: Path) -> dict[str, Any]:
    """Return `CLIPConfig` data of a folder, or of a file from the shapes in it."""
    return _folder_config(source) if source.is_dir() else _openai_file(source)[0]


def is_clip_folder(folder: Path) -> bool:
    """Tell a transformers CLIP folder from a disa model's, by its configuration."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "clip"


def dense_config(clip: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration of a CLIP that is used alone.

    Guidance blocks, which it does not need, as in [B].

    CLIPs for pictures of 224 pixels and more get the baseline's 24 x 24 tokens, smaller ones their
    own grid.
    """
    vision = clip.get("vision_config") or {}
    native, patch = (
        vision.get("image_size", 224),
        vision.get("patch_size", 32),
    )  # transformers' defaults
    depth = vision.get("num_hidden_layers", 12)
    size = GRID * patch if native >= 224 else native // patch * patch
    config = ModelConfig(
        dict(clip), backbone_image_size=size, backbone_guidance_blocks=guidance_blocks(depth)
    )
    return config.replace(**BASELINE)


def guidance_blocks(depth: int) -> tuple[int, int]:
    """Return the blocks to tap, at one and two thirds: (3, 7) of 12, (7, 15) of 24 [B]."""
    return max(0, depth // 3 - 1), max(0, 2 * depth // 3 - 1)


def _folder_config(folder: Path) -> dict[str, Any]:
    config = _read_json(folder / CONFIG)
    if config.get("model_type") != "clip":
        raise DisaError(
            f"{folder / CONFIG}: model_type is {config.get('model_type')!r}, expected 'clip'"
        )
    return config


def _folder_weights(folder: Path) -> dict[str, Tensor]:
    for name, read in WHOLE.items():
        if (folder / name).is_file():
            return _cleaned(_read(folder / name, read), folder / name)
    for name, read in PARTS.items():
        if (folder / name).is_file():
            state: dict[str, Tensor] = {}
            files = sorted(set(_read_json(folder / name).get("weight_map", {}).values()))
            for part in files:
                state |= _read(
                    folder / Path(part).name, read
                )  # a name, never a path out of the folder
            return _cleaned(state, folder / name)
    raise DisaError(
        f"{folder}: holds no weights; a CLIP folder has one of {', '.join((*WHOLE, *PARTS))}"
    )


def _openai_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and the weights under OpenAI's names."""
    state = read_torch_file(path)
    if not isinstance(state, dict) or not is_openai(state):
        raise DisaError(
            f"{path}: is no CLIP in OpenAI's form; give ViT-B-16.pt, say, or a transformers folder"
        )
    try:
        config = openai_config(state)
    except DisaError as error:
        raise DisaError(f"{path}: {error}") from None
    return {"model_type": "clip", **config}, state


def _cleaned(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    if wrong := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise DisaError(f"{path}: {wrong[0]} is no tensor; it is no CLIP")
    # position_ids were saved by older versions of transformers; they are no weights
    return widened(
        {name: value for name, value in state.items() if not name.endswith("position_ids")}
    )


def _read(path: Path, read: Any) -> dict[str, Any]:
    try:
        state = read(path)
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file; copy the CLIP folder again") from None
    except (OSError, SafetensorError) as error:
        raise DisaError(
            f"{path}: damaged or no safetensors file ({error}); copy it again"
        ) from None
    if not isinstance(state, dict):
        raise DisaError(f"{path}: holds {type(state).__name__}, not tensors by name; it is no CLIP")
    return state


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file; give a folder with {CONFIG} and weights") from None
    except (OSError, ValueError) as error:
        raise DisaError(f"{path}: not readable as JSON ({error}); copy the folder again") from None
    if not isinstance(data, dict):
        raise DisaError(f"{path}: not a JSON object; copy the folder again")
    return data
