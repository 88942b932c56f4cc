"""Results on disk: Segmentation -> STEM_overlay.png, STEM_labels.png, STEM.json. Each file whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from disa.inference.heatmaps import saliency_sheet
from disa.inference.render import overlay, palette_image
from disa.inference.segmentation import Segmentation
from disa.running.files import prepare_folder, write_whole


def save(
    result: Segmentation, folder: Path, stem: str | None, *, saliency: bool, beside: bool
) -> list[Path]:
    """Write the files of `Segmentation.save` and return their paths."""
    stem = stem or (Path(result.source).stem if result.source else "image")
    drawn = overlay(result.image, result.labels, result.words, beside=beside)
    indexed = palette_image(result.labels, result.words)
    text = json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n"
    writers: dict[str, Callable[[IO[bytes]], Any]] = {
        f"{stem}_overlay.png": lambda file: drawn.save(file, "PNG"),
        f"{stem}_labels.png": lambda file: indexed.save(file, "PNG"),
        f"{stem}.json": lambda file: file.write(
            text.encode(errors="backslashreplace")
        ),  # a file name may be no UTF-8
    }
    if saliency:
        sheet = saliency_sheet(result.image, result.saliency, result.matched, result.foreground)
        writers[f"{stem}_saliency.png"] = lambda file: sheet.save(file, "PNG")
    if result.scores is not None:
        scores, words = result.scores.astype(np.float16), np.array(result.words)
        writers[f"{stem}_scores.npz"] = lambda file: np.savez_compressed(
            file, scores=scores, words=words
        )
    prepare_folder(folder)
    for name, write in writers.items():
        write_whole(folder / name, write)
    return [folder / name for name in writers]
