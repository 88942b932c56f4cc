"""PyTorch's own files (.pt, .pth, .bin) read without running anything that stands in them. `path -> nested data`

Both kinds of archive: what `torch.save` wrote, and TorchScript, in which OpenAI published CLIP.
"""

import pickle
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from disa.errors import DisaError

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def read_torch_file(path: Path) -> Any:
    """Return what the file holds, tensors on the CPU in their own types; of a TorchScript archive, its state dict.

    Raises `DisaError` for a missing, truncated or foreign file, and for a pickle that would run code.
    """
    try:
        if _is_torchscript(path):
            return _read_torchscript(path)
        mapped = zipfile.is_zipfile(
            path
        )  # files of the days before torch 1.6 are no archives and are read whole
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        reason = _first_line(error)
        raise DisaError(
            f"{path}: holds more than tensors and was not opened, as it could run code ({reason})"
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
        return any(
            name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist()
        )


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        data = next(
            name
            for name in archive.namelist()
            if name.count("/") == 1 and name.endswith("/data.pkl")
        )
        root = _Unpickler(archive.read(data), archive, data.removesuffix("data.pkl")).load()
    if not isinstance(root, _Module):
        raise ValueError("TorchScript without a module")
    return _tensors(root)


class _Module:
    """Stands for every class of a TorchScript archive: only its attributes are of interest."""

    attributes: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = state


class _Unpickler(pickle.Unpickler):
    """Knows tensors, plain containers and `_Module`; whatever else a file asks for is refused."""

    def __init__(self, data: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(BytesIO(data))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _rebuild
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, reference: Any) -> Tensor:
        """Return a storage as a flat tensor; its record must be as long as it says."""
        _, dtype, key, _, count = reference
        record = self.archive.getinfo(f"{self.folder}data/{key}")
        expected = int(count) * torch.empty(0, dtype=dtype).element_size()
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != expected:
            raise ValueError(
                f"record {record.filename} has {record.file_size} bytes, expected {expected}"
            )
        raw = bytearray(self.archive.read(record))
        return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def _rebuild(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors(module: _Module, prefix: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            found[prefix + name] = value
        elif isinstance(value, _Module):
            found |= _tensors(value, f"{prefix}{name}.")
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
