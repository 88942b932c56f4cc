"""A model as a folder: written whole, and checked before memory is taken."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.backbone import set_finetune
from disa.model.count import parameters
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.running.files import replace_file
from disa.weights.hub import fetch_first, is_hub_id
from disa.weights.model_card import Source, model_card

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
CARD = "README.md"
FORMAT = 1
MOST_LAYERS = (
    200  # more than any CLIP: beyond it the file is damaged, and building would take for ever
)
STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

Model = TypeVar("Model", bound=nn.Module)


def save(
    model: Disa | DenseClip,
    folder: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype | None = None,
    source: Source | None = None,
) -> None:
    """Write `model.safetensors`, a model card, `config.json` and, if given, `tokenizer.json`.

    Each file appears whole or not at all. A CLIP alone is written as transformers does it. `dtype`
    None keeps every value as it is; a 16-bit one halves the size. `source` is where converted
    weights come from. Raises `DisaError` if the disk refuses.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(model, Disa):
            _write_disa(model, folder, dtype, source)
        else:
            model.backbone.clip.save_pretrained(folder)
        if tokenizer is not None:
            text = tokenizer.to_str(pretty=True)
            replace_file(folder / TOKENIZER, lambda path: path.write_text(text, encoding="utf-8"))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DisaError(
            f"{folder}: cannot write the model ({reason}); free space or choose another folder"
        ) from error


def _write_disa(
    model: Disa, folder: Path, dtype: torch.dtype | None, source: Source | None
) -> None:
    # clones: safetensors refuses tensors that share memory
    tensors = {
        name: value.detach().to("cpu", dtype, copy=True).contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {"format": "pt"}
    replace_file(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata=metadata))

    card = model_card(model.config, parameters(model), source)
    replace_file(folder / CARD, lambda path: path.write_text(card, encoding="utf-8"))

    # The configuration comes last: a folder without it is not a model yet.
    data = {"format": FORMAT, "kind": "disa", "model": model.config.to_dict()}
    text = json.dumps(data, indent=2) + "\n"
    replace_file(folder / CONFIG, lambda path: path.write_text(text))


def load_disa(folder: str | Path, **hub_options: Any) -> Disa:
    """Return the network that `save` wrote, in evaluation mode and 32 bit.

    A name such as "owner/name" that is no folder is fetched from the Hub; `hub_options`
    (`revision`, `token`, `cache_dir`, `local_files_only`) go to `hf_hub_download`. Raises
    `DisaError` for any other file.
    """
    if not Path(folder).is_dir() and is_hub_id(str(folder)):
        files = [fetch_first(str(folder), (name,), **hub_options) for name in (CONFIG, WEIGHTS)]
        folder = files[0].parent
    config = read_config(folder)
    model = build(folder, lambda: Disa(config), config)
    model.load_state_dict(read_weights(folder, model.state_dict()), assign=True)
    model.backbone.restore_buffers()
    set_finetune(model.backbone, config.backbone_finetune)
    return model.eval()


def read_config(folder: str | Path) -> ModelConfig:
    """Return the configuration in a model folder.

    Raises `DisaError` naming the file and what is wrong with it.
    """
    path = Path(folder) / CONFIG
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DisaError(
            f"{path}: no such file; give a folder that holds {CONFIG} and {WEIGHTS}"
        ) from error
    except (OSError, ValueError) as error:
        raise DisaError(
            f"{path}: not readable as JSON ({error}); copy the model folder again"
        ) from error
    if (
        not isinstance(data, dict)
        or data.get("kind") != "disa"
        or not isinstance(data.get("model"), dict)
    ):
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
    except (
        Exception
    ) as error:  # transformers and torch raise many kinds for numbers that fit no network
        raise _unbuildable(path, error) from error


def read_weights(folder: str | Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in 32 bit.

    The header is compared with `expected` first, before any tensor is read.
    """
    path = Path(folder) / WEIGHTS
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            check(path, {name: tuple(part.get_shape()) for name, part in slices.items()}, expected)
            for name, part in slices.items():
                if part.get_dtype() not in STORED:
                    raise DisaError(
                        f"{path}: {name} is stored as {part.get_dtype()}; expected "
                        f"{', '.join(STORED)}"
                    )
            # copies: aligned memory, so that results are bitwise those of the saved model, and no
            # longer the file's
            return {name: file.get_tensor(name).to(torch.float32, copy=True) for name in slices}
    except FileNotFoundError as error:
        raise DisaError(
            f"{path}: no such file; give a folder that holds {CONFIG} and {WEIGHTS}"
        ) from error
    except (OSError, SafetensorError) as error:
        raise DisaError(
            f"{path}: damaged or no safetensors file ({error}); copy it again"
        ) from error


def check(
    path: Path, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor]
) -> None:
    """Raise `DisaError` naming the first tensor that is missing, left over or misshaped."""
    if missing := sorted(set(expected) - set(shapes)):
        raise DisaError(
            f"{path}: lacks {missing[0]}{_more(missing)}; it belongs to another model or "
            "configuration"
        )
    if foreign := sorted(set(shapes) - set(expected)):
        raise DisaError(
            f"{path}: holds the unknown {foreign[0]}{_more(foreign)}; it belongs to another model"
        )
    for name, shape in shapes.items():
        if tuple(shape) != tuple(expected[name].shape):
            raise DisaError(
                f"{path}: {name} has shape {tuple(shape)}, {CONFIG} says "
                f"{tuple(expected[name].shape)}; "
                "use weights and configuration of one model"
            )


def _unbuildable(path: Path, error: Exception) -> DisaError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DisaError(
        f"{path}: no network can be built from it ({reason}); copy the model folder again"
    )


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
