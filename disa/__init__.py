"""Segment a picture by the labels that you name.

    segmenter = disa.load("mini")
    result = segmenter("boat.png", ["boat", "sea"])

Names are imported when first used, so that `import disa` and `disa --help` stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from disa.version import __version__ as __version__

if TYPE_CHECKING:
    from disa.config import ModelConfig as ModelConfig
    from disa.errors import DisaError as DisaError
    from disa.inference.segmentation import Segmentation as Segmentation
    from disa.inference.segmenter import Segmenter as Segmenter
    from disa.inference.segmenter import load as load
    from disa.model.disa import Disa as Disa


_HOMES = {
    "load": "disa.inference.segmenter",
    "Segmenter": "disa.inference.segmenter",
    "Segmentation": "disa.inference.segmentation",
    "Disa": "disa.model.disa",
    "ModelConfig": "disa.config",
    "DisaError": "disa.errors",
}
__all__ = ["Disa", "DisaError", "ModelConfig", "Segmentation", "Segmenter", "load"]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'disa' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return [*__all__, "__version__"]
