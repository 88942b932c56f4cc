"""Tensors by name in files: safetensors, and what `torch.save` wrote. No file's code is run."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from disa.errors import DisaError


def read_safetensors(path: Path, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Return the tensors of a file in 32 bit, in memory of their own.

    With `expected`, names and shapes are compared before any tensor is read. Raises `DisaError`
    that names the file, and the first tensor that does not fit.
    """
    try:
        with safe_open(path, "pt") as file:
            # These are entries of the file's header: no tensor is read yet.
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            if expected is not None:
                shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
                check_shapes(path, shapes, expected)
                for name, part in slices.items():
                    if part.get_dtype() not in ("F32", "F16", "BF16"):
                        raise DisaError(
                            f"{path}: {name} is stored as {part.get_dtype()}; expected F32, F16 "
                            "or BF16"
                        )
            # A copy is aligned in memory, which makes results bitwise those of the saved model, and
            # it outlives the file.
            return {name: file.get_tensor(name).to(torch.float32, copy=True) for name in slices}
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file; copy the whole model folder") from None
    except (OSError, SafetensorError) as error:
        raise DisaError(
            f"{path}: damaged or no safetensors file ({error}); copy it again"
        ) from error


def read_torch_file(path: Path) -> Any:
    """Return what `torch.save` wrote: nested data, tensors on the CPU in their own types.

    Raises `DisaError` for a missing, truncated or foreign file, for a pickle that would run code,
    and for a TorchScript archive, the form in which OpenAI published CLIP (decision D53).
    """
    try:
        # Files from before torch 1.6 are no archives and are read whole.
        is_archive = zipfile.is_zipfile(path)
        if is_archive and _is_torchscript(path):
            raise DisaError(
                f"{path}: is a TorchScript archive, which could run code; the same weights are "
                "`--model clip-vit-b-16` and the like, or a folder in transformers' form"
            )
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise DisaError(
            f"{path}: holds more than tensors and was not opened, as it could run code "
            f"({first_line(error)})"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DisaError(
            f"{path}: damaged or no PyTorch file ({first_line(error)}); download it again"
        ) from None


def check_shapes(
    path: Path, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor]
) -> None:
    """Raise `DisaError` that names the first tensor that is missing, unknown or misshaped."""
    for reason, names in (
        ("lacks", sorted(expected.keys() - shapes.keys())),
        ("holds the unknown", sorted(shapes.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise DisaError(
                f"{path}: {reason} {names[0]}{more}; it belongs to another model or configuration"
            )
    for name, shape in shapes.items():
        if shape != tuple(expected[name].shape):
            raise DisaError(
                f"{path}: {name} has shape {shape}, config.json says "
                f"{tuple(expected[name].shape)}; use weights and configuration of one model"
            )


def in_32_bit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in 32 bit, in memory of their own.

    Published files mix 16 and 32 bit (decision D52).
    """
    return {name: value.to(torch.float32, copy=True) for name, value in state.items()}


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, which can be a page long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _is_torchscript(path: Path) -> bool:
    # Only TorchScript writes this record.
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in names)
