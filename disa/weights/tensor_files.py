"""Tensors by name in files: safetensors, and what `torch.save` wrote. No file's code is run."""

import pickle
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from disa.errors import DisaError
from disa.running.lists import first_of

AGAIN = "download it again"
# Two names may share a tensor that the file holds once.
MOST_GROWTH = 2


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
        if is_archive:
            _check_archive(path)
        elif tarfile.is_tarfile(path):
            raise DisaError(f"{path}: is a tar archive, which torch no longer writes; {AGAIN}")
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
        _check_size(path, data)
        return data
    except DisaError:
        raise
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise DisaError(
            f"{path}: holds more than tensors and was not opened, as it could run code "
            f"({first_line(error)})"
        ) from None
    except Exception as error:  # unpicklers meet damaged files with every kind of exception
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise DisaError(f"{path}: damaged or no PyTorch file ({reason}); {AGAIN}") from None


def named_tensors(path: Path, data: Any) -> dict[str, Tensor]:
    """Return what `read_torch_file` gave, if it is tensors by name. Raises `DisaError` if not."""
    if not isinstance(data, Mapping):
        raise DisaError(f"{path}: holds no tensors by name; give the weights of a model")
    for name, value in data.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise DisaError(
                f"{path}: holds {short(name)}, which is no tensor with a name; give the weights of "
                "a model"
            )
    return dict(data)


def check_shapes(
    path: Path, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor]
) -> None:
    """Raise `DisaError` that names the first tensor that is missing, unknown or misshaped."""
    for reason, names in (
        ("lacks", sorted(expected.keys() - shapes.keys())),
        ("holds the unknown", sorted(shapes.keys() - expected.keys())),
    ):
        if names:
            raise DisaError(
                f"{path}: {reason} {first_of(names, 1)}; it belongs to another model or "
                "configuration"
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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, which can be a page long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _check_archive(path: Path) -> None:
    """Raise `DisaError` for TorchScript, and for an archive that would grow when it is read."""
    with zipfile.ZipFile(path) as archive:
        files = archive.infolist()
    names = [file.filename for file in files]
    # Only TorchScript writes this record.
    if any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in names):
        raise DisaError(
            f"{path}: is a TorchScript archive, which could run code; the same weights are "
            "`--model clip-vit-b-16` and the like, or a folder in transformers' form"
        )
    packed = next((file for file in files if file.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise DisaError(
            f"{path}: {packed.filename} is packed, {packed.file_size:,} bytes in "
            f"{packed.compress_size:,}, as torch.save never does; {AGAIN}"
        )
    # Files that lie over one another would be read several times.
    total = sum(file.file_size for file in files)
    if total > path.stat().st_size:
        raise DisaError(f"{path}: declares {total:,} bytes, more than it has; {AGAIN}")


def _check_size(path: Path, data: Any) -> None:
    """Raise `DisaError` for tensors that would take more memory than their numbers in the file.

    A tensor without strides shows one number as often as its shape says (decision D132).
    """
    total = 0
    for tensor in _tensors_in(data):
        is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not is_plain or tensor.is_quantized:
            raise DisaError(f"{path}: holds a tensor that is no plain one of numbers; {AGAIN}")
        total += tensor.numel() * tensor.element_size()
    size = path.stat().st_size
    if total > MOST_GROWTH * size:
        raise DisaError(
            f"{path}: its tensors would take {total:,} bytes, but it has {size:,}; {AGAIN}"
        )


def _tensors_in(data: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested data; data that holds itself is walked once."""
    seen = set()
    parts = [data]
    while parts:
        part = parts.pop()
        if isinstance(part, Tensor):
            # Once for each name: every one is copied.
            yield part
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            parts += part.values()
        elif isinstance(part, (list, tuple, set)):
            parts += part
