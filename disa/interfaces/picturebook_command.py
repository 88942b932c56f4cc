"""`disa picturebook`: a number of scenes -> their pictures, label maps and captions in a folder."""

from pathlib import Path

import numpy as np
import typer
from PIL import Image
from rich.progress import track

from disa.errors import DisaError
from disa.picturebook import LARGEST, SMALLEST, WORDS, render
from disa.running.files import prepare_folder, write_json, write_whole


def run(out: Path, *, count: int, size: int, seed: int, masks: bool) -> None:
    """Write `scene-NNNN.png` and, with `masks`, `masks/scene-NNNN.png` (index into `words`) and `scenes.json`.

    Raises `DisaError` for a size that cannot be drawn and a folder that cannot be written.
    """
    if not SMALLEST <= size <= LARGEST:
        raise DisaError(f"--size {size}: choose {SMALLEST} to {LARGEST} pixels")
    prepare_folder(out)
    if masks:
        prepare_folder(out / "masks")
    captions = {}
    for index in track(
        range(count), "drawing", disable=not typer.get_text_stream("stdout").isatty()
    ):
        scene, name = render(seed, index, size), f"scene-{index:04d}.png"
        _write_png(out / name, scene.image)
        if masks:
            _write_png(out / "masks" / name, scene.labels)
        captions[name] = {"caption": scene.caption, "words": scene.words}
    if masks:
        write_json(out / "scenes.json", {"seed": seed, "words": WORDS, "scenes": captions})
    drawn = "1 scene is" if count == 1 else f"{count} scenes are"
    typer.echo(f"{drawn} in {out}" + (f", masks in {out / 'masks'}" if masks else ""))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    write_whole(path, lambda file: picture.save(file, "PNG"))
