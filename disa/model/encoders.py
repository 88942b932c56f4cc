"""Which dual encoders there are, and which one a configuration describes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from transformers import CLIPConfig, SiglipConfig

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.backbone import Backbone
from disa.model.clip import ClipBackbone
from disa.model.siglip import SiglipBackbone

CLIP = "clip"
SIGLIP = "siglip"


class Encoder(NamedTuple):
    """A kind of dual encoder."""

    config: Callable[..., Any]  # transformers' class of its configuration
    backbone: Callable[[ModelConfig], Backbone]


# By what transformers calls its `model_type`.
ENCODERS = {
    CLIP: Encoder(CLIPConfig, ClipBackbone),
    SIGLIP: Encoder(SiglipConfig, SiglipBackbone),
}


def kind_of(clip: Mapping[str, Any]) -> str:
    """Return the kind that `backbone_clip` names; a CLIP's may leave it out.

    Raises `DisaError` for an unknown one.
    """
    kind = clip.get("model_type", CLIP)
    if kind not in list(ENCODERS):
        raise DisaError(f"backbone_clip: model_type {kind!r} is none of {', '.join(ENCODERS)}")
    return kind


def encoder_config(clip: Mapping[str, Any]) -> Any:
    """Return `backbone_clip` as transformers reads it, with the defaults of what it leaves out."""
    return ENCODERS[kind_of(clip)].config(**clip)


def build_backbone(config: ModelConfig) -> Backbone:
    """Return the backbone that `backbone_clip` describes, with random weights.

    Raises `DisaError` for an unknown kind, and for guidance or a size that do not fit it.
    """
    return ENCODERS[kind_of(config.backbone_clip)].backbone(config)
