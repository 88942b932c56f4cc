"""Segmentations as answers: JSON, PNG and COCO."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from disa.inference.colours import label_colours
from disa.inference.overlay import palette_image
from disa.inference.protocol import Protocol
from disa.inference.request import Query, parse_query
from disa.inference.segmentation import BACKGROUND, Segmentation
from disa.serving.limits import Limits
from disa.serving.problems import Problem

Format = Literal["json", "labels", "overlay", "coco"]
NO_LABEL = 65535  # in the maps of an answer


class Ask(BaseModel):
    """What to look for in a picture."""

    model_config = ConfigDict(extra="forbid")

    labels: str | list[str] = Field(
        description='"boat|ship, sea" or a list; | stands between synonyms of one label.',
        examples=["boat|ship, sea, sky"],
    )
    background: float | str | list[str] | None = Field(
        None,
        description="Which pixels get no label: null, none; 0.3, those whose best score is lower; "
        '"foreground", those of no thing; "wall, floor", those that these labels win.',
    )
    gate: int | None = Field(
        None, description="Compute only so many labels, those that the picture resembles most."
    )
    maps: bool = Field(
        False,
        description="Add PNGs in base64 to the JSON: `pixels` (red + 256 green is the label, "
        "65535 none; blue is its score in 255ths) and each word's `saliency` (grey, small).",
    )


def query_of(
    ask: Ask, limits: Limits, protocol: Protocol, templates: tuple[str, ...] | None
) -> Query:
    """Return what a client asks for. Raises `Problem` beyond a limit, `DisaError` for nonsense."""
    background = ask.background if isinstance(ask.background, (str, list)) else ""
    for given in (ask.labels, background):
        _check_size(given, limits)
    query = parse_query(
        ask.labels,
        background=ask.background,
        templates=templates,
        protocol=protocol,
        gate=ask.gate,
    )
    if len(query.all_labels) > limits.max_labels:
        raise _too_many(limits)
    for label in query.all_labels:
        if len(label) > limits.max_label_length:
            raise Problem(
                422,
                f'the label "{label[:60]}..." has {len(label)} characters, more than the limit of '
                f"{limits.max_label_length}; shorten it",
            )
    return query


def as_response(
    result: Segmentation, format: Format, maps: bool = False, notes: Sequence[str] = ()
) -> Response:
    """Return a segmentation in one of the formats; JSON has the notes, and the maps if asked."""
    if format == "coco":
        return JSONResponse(result.to_coco())
    if format == "labels":
        return png_response(palette_image(result.labels, result.words))
    if format == "overlay":
        return png_response(result.overlay())
    return JSONResponse(_as_json(result, maps) | {"notes": list(notes)})


def png_response(picture: Image.Image, headers: Mapping[str, str] | None = None) -> Response:
    """Return a picture as an answer."""
    return Response(_png(picture), headers=headers, media_type="image/png")


def _check_size(given: str | list[str], limits: Limits) -> None:
    """Refuse lists that are too long to be read at all."""
    most = limits.max_labels * (limits.max_label_length + 1)
    is_long = len(given) > (most if isinstance(given, str) else limits.max_labels)
    if is_long:
        raise _too_many(limits)


def _too_many(limits: Limits) -> Problem:
    return Problem(422, f"more labels than the limit of {limits.max_labels}; ask for fewer")


def _as_json(result: Segmentation, maps: bool) -> dict[str, Any]:
    """Return areas, scores, matches and colours; with `maps` the pixels and the saliency."""
    data = result.to_json()
    colours = label_colours(result.words)
    for word, colour in zip(data["words"], colours.tolist(), strict=True):
        word["colour"] = "#" + bytes(colour).hex()
    if maps:
        data["pixels"] = _base64(_pixels(result))
        for word, saliency in zip(data["words"], _saliency(result), strict=True):
            word["saliency"] = saliency
    return data


def _pixels(result: Segmentation) -> Image.Image:
    """Return labels and scores in one picture, exact in every browser (decision D152)."""
    labels = np.where(result.labels == BACKGROUND, NO_LABEL, result.labels)
    score = np.clip(result.confidence * 255, 0, 255).round()
    return Image.fromarray(np.dstack([labels % 256, labels // 256, score]).astype(np.uint8))


def _saliency(result: Segmentation) -> list[str | None]:
    """Return where each label looks, up to its own peak; None for a model that does not say."""
    if result.token_saliency is None:
        return [None] * len(result.words)
    peaks = result.token_saliency.max((1, 2), keepdims=True)
    shares: NDArray[Any] = result.token_saliency / np.maximum(peaks, 1e-12)
    return [_base64(Image.fromarray((255 * share).astype(np.uint8))) for share in shares]


def _base64(picture: Image.Image) -> str:
    return base64.b64encode(_png(picture)).decode()


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    # Little compression: a client that waits is slower than its network.
    picture.save(file, "PNG", compress_level=2)
    return file.getvalue()
