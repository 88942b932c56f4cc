"""Packages of extras, which only some uses need: looked for when they are used."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from disa.errors import DisaError


def require(use: str, extra: str, *packages: str) -> None:
    """Raise `DisaError` if one of an extra's packages is not installed; nothing is imported.

    `use` is what needs them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise _missing(use, extra, " and ".join(missing))


def imported(use: str, extra: str, module: str) -> Any:
    """Return a module of an extra. Raises `DisaError` if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise _missing(use, extra, error.name or module) from None


def _missing(use: str, extra: str, packages: str) -> DisaError:
    return DisaError(f"{use} needs {packages}: pip install 'disa-seg[{extra}]'")
