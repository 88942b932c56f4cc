"""PyTorch's own files (.pt, .pth, .bin), read without running anything that stands in them."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from disa.errors import DisaError


def read_torch_file(path: Path) -> Any:
    """Return what `torch.save` wrote: nested data, tensors on the CPU in their own types.

    Raises `DisaError` for a missing, truncated or foreign file, for a pickle that would run code,
    and for a TorchScript archive, the form in which OpenAI published CLIP: opening one runs what
    stands in it, and the same weights are on the Hub (decision D53).
    """
    try:
        if _is_torchscript(path):
            raise DisaError(
                f"{path}: is a TorchScript archive, which could run code; the same weights are "
                "`--model clip-vit-b-16` and the like, or a folder in transformers' form"
            )
        # Files from before torch 1.6 are no archives and are read whole.
        mapped = zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise DisaError(
            f"{path}: holds more than tensors and was not opened, as it could run code "
            f"({_first_line(error)})"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DisaError(
            f"{path}: damaged or no PyTorch file ({_first_line(error)}); download it again"
        ) from None


def _is_torchscript(path: Path) -> bool:
    """Tell by the record that only TorchScript writes."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in names)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
