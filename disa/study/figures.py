"""What the study's networks look at, as one picture: (models of variants, scenes) -> a grid of saliency and split.

A row is a label that a test scene holds; the columns are the scene, the label's true mask, and each network's saliency
with the outline of its foreground tokens.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from disa.evaluation.picturebook import Failure, evaluate
from disa.evaluation.pictures import save_both
from disa.inference.segmenter import load
from disa.picturebook import TEST_SEED, WORDS, Scene, render
from disa.running.files import write_whole
from disa.study.variants import REFERENCE, VARIANTS, Variant, folder_name

SHOWN = (
    "saliency: plain attention",
    "saliency: gradient of the matching loss",
    "product head and split above 20 %",
)
SCENES = (3, 7, 11, 20)  # test scenes, chosen before any network was trained
LABELS_EACH = 2  # the largest and the smallest label of each scene
_CELL, _MARGIN, _TITLE = 192, 6, 34  # pixels
_FAILURES = 4


def save_figures(runs: Path, folder: Path, seed: int) -> list[Path]:
    """Write saliency.png and the worst scenes of the reference; networks that were not trained are left out."""
    models = [
        (variant, runs / folder_name(variant.name) / f"seed-{seed}" / "model")
        for variant in _shown()
    ]
    models = [(variant, model) for variant, model in models if model.is_dir()]
    if not models:
        return []
    path = folder / "saliency.png"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = saliency_grid(models)
    write_whole(path, partial(drawn.save, format="PNG", optimize=True))
    return [path, *_save_failures(models[0][1], folder)]


def saliency_grid(models: Sequence[tuple[Variant, Path]]) -> Image.Image:
    """Return the grid for (variant, model folder) pairs. Raises `DisaError` for a folder that holds no model."""
    rows = [
        (render(TEST_SEED, number, 96), label) for number in SCENES for label in _labels(number)
    ]
    columns = [
        [_enlarged(scene.image) for scene, _ in rows],
        [_mask(scene, label) for scene, label in rows],
    ]
    for _, model in models:
        segmenter = load(model, "cpu")
        text = segmenter.text(WORDS)
        cells = []
        for scene, label in rows:
            pixels = torch.from_numpy(scene.image.transpose(2, 0, 1).copy())[None].float()
            with torch.inference_mode():
                found = segmenter.model(pixels, text)
            assert found.saliency is not None and found.foreground is not None, (
                "a network without the SDM"
            )
            cells.append(_heat(scene, found.saliency[0, label], found.foreground[0, label]))
        columns.append(cells)
    return _grid(columns, ["scene", "true mask", *(variant.name for variant, _ in models)], rows)


def _shown() -> list[Variant]:
    return [REFERENCE, *(variant for variant in VARIANTS if variant.name in SHOWN)]


def _labels(number: int) -> list[int]:
    values, counts = np.unique(render(TEST_SEED, number, 96).labels, return_counts=True)
    order = values[np.argsort(-counts, kind="stable")]
    return [int(order[0]), int(order[-1])][:LABELS_EACH]


def _enlarged(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.LANCZOS)


def _mask(scene: Scene, label: int) -> Image.Image:
    return _enlarged(
        np.where((scene.labels == label)[..., None], scene.image, 235).astype(np.uint8)
    )


def _heat(
    scene: Scene, saliency: Float[Tensor, "h w"], foreground: Float[Tensor, "h w"]
) -> Image.Image:
    """Return the scene in grey, warm where the label looks, with the foreground tokens outlined."""
    scaled = F.interpolate(
        (saliency / saliency.amax().clamp_min(1e-30))[None, None], (_CELL, _CELL), mode="bilinear"
    )
    heat = scaled[0, 0, ..., None].numpy()
    grey = np.asarray(_enlarged(scene.image).convert("L"), np.float32)[..., None].repeat(3, 2)
    warm = np.array([255, 96, 0], np.float32)
    side = F.interpolate(foreground[None, None], (_CELL, _CELL), mode="nearest")[0, 0].numpy() > 0.5
    outline = np.zeros_like(side)
    outline[1:] |= side[1:] != side[:-1]
    outline[:, 1:] |= side[:, 1:] != side[:, :-1]
    picture = 0.7 * grey * (1 - 0.85 * heat) + warm * 0.85 * heat + 0.3 * 128 * (1 - heat)
    picture[outline] = (0, 90, 255)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def _grid(
    columns: Sequence[Sequence[Image.Image]],
    titles: Sequence[str],
    rows: Sequence[tuple[Scene, int]],
) -> Image.Image:
    step = _CELL + _MARGIN
    height = _TITLE + len(rows) * (step + 16)
    drawn = Image.new("RGB", (len(columns) * step + _MARGIN, height), "white")
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(12)
    for across, (title, cells) in enumerate(zip(titles, columns, strict=True)):
        left = _MARGIN + across * step
        pen.multiline_text((left, 3), _wrapped(title, font), "black", font, spacing=1)
        for down, cell in enumerate(cells):
            top = _TITLE + down * (step + 16)
            drawn.paste(cell, (left, top))
            if across == 0:
                pen.text((left, top + _CELL + 1), WORDS[rows[down][1]], "black", font)
    return drawn


def _wrapped(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > _CELL:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _save_failures(model: Path, folder: Path) -> list[Path]:
    segmenter, worst = load(model, "cpu"), list[Failure]()
    evaluate(segmenter.model, segmenter.text(WORDS), scenes=100, worst=worst, keep=_FAILURES)
    for rank, failure in enumerate(worst, start=1):
        save_both(
            folder / f"failure-{rank}",
            failure.scene.image,
            failure.scene.labels,
            failure.labels,
            WORDS,
        )
    return sorted(folder.glob("failure-*.png"))
