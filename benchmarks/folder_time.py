"""Where the processor's time goes for each picture of `disa segment FOLDER`, and its throughput.

Seconds of the processor are counted in one process, the least of several rounds. Drawing and saving
go to other processes: "the command's process" is what is left for the one that computes, and the
throughput is the model's share of it, with as many free cores as workers.

python benchmarks/folder_time.py --model mini --side 384
"""

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

import disa
from disa.data.images import Reading, read_image
from disa.inference.folder import segment_files
from disa.inference.overlay import palette_image
from disa.inference.request import Job, parse_query
from disa.inference.segmentation import OVERLAY_PACKING, Saving
from disa.picturebook import NOUNS, TEST_SEED, render


def main() -> None:
    """Print a JSON line: milliseconds of each part, and what share of the time the model has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--labels", type=int, default=len(NOUNS))
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = disa.load(asked.model, "cpu")
    labels = list(NOUNS[: asked.labels])

    with TemporaryDirectory() as folder:
        files = []
        for index in range(asked.pictures):
            files.append(Path(folder) / f"{index}.png")
            Image.fromarray(render(TEST_SEED, index, asked.side).image).save(files[-1])
        jobs = [Job(file, file.stem) for file in files]
        queries = {"": parse_query(labels)}
        saving = Saving(Path(folder))
        pictures = [read_image(file) for file in files]
        results = segmenter(pictures, labels)
        overlays = [result.overlay() for result in results]
        maps = [palette_image(result.labels, result.words) for result in results]
        parts: dict[str, Callable[[], Any]] = {
            "reading": lambda: [read_image(file) for file in files],
            "model": lambda: segmenter(pictures, labels),
            "the command's process": lambda: list(
                segment_files(segmenter, jobs, queries, saving, 2, Reading())
            ),
            "drawing the overlay": lambda: [result.overlay() for result in results],
            "its PNG": lambda: [_png(each, OVERLAY_PACKING) for each in overlays],
            "PNG of the labels": lambda: [_png(each) for each in maps],
            "all of saving": lambda: [
                result.save(folder, str(index)) for index, result in enumerate(results)
            ],
            "saving without overlay": lambda: [
                result.save(folder, str(index), overlay=False)
                for index, result in enumerate(results)
            ],
        }
        seconds = {name: _least(part, asked.rounds) for name, part in parts.items()}
    shown = {name: round(1000 * each / asked.pictures, 1) for name, each in seconds.items()}
    share = seconds["model"] / seconds["the command's process"]
    print(json.dumps(vars(asked) | {"milliseconds": shown, "throughput": round(share, 3)}))


def _png(image: Image.Image, packing: int = 6) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=packing)
    return file.getvalue()


def _least(work: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(1 + rounds):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times[1:])


if __name__ == "__main__":
    main()
