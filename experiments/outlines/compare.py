"""Draw label maps of two models beside the truth: the same scenes, and the worst ones of each.

    disa evaluate picturebook --model OLD --save-predictions runs/old --out runs/a
    disa evaluate picturebook --model mini --save-predictions runs/new --out runs/b
    python experiments/outlines/compare.py runs/old runs/new outlines.png

Columns are the scene, its true labels, the first model's labels and the second one's.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from disa.data.drawn import DrawnDataset
from disa.data.masks import read_indices
from disa.inference.colours import label_colours
from disa.picturebook import NOUNS

SCENES = (2, 5, 11, 20)  # chosen before any network was trained
WORST = 2  # of each model

COLOURS = np.array(label_colours(NOUNS), np.uint8)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description="Draw label maps of two models beside the truth.")
    parser.add_argument("before", type=Path, help="folder of disa evaluate --save-predictions")
    parser.add_argument("after", type=Path, help="the same of another model")
    parser.add_argument("out", type=Path, help="the PNG to write")
    options = parser.parse_args()

    folders = {"before": options.before, "after": options.after}
    maps = {name: read_maps(folder) for name, folder in folders.items()}
    size = next(iter(maps["after"].values())).shape[0]
    dataset = DrawnDataset("val", len(maps["after"]), size)
    rows = {index: f"scene {index}" for index in SCENES}
    for name in folders:
        for index in worst(dataset, maps[name]):
            rows.setdefault(index, f"worst of {name}: scene {index}")

    figure = Figure(figsize=(8, 2 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for (index, title), row in zip(rows.items(), axes, strict=True):
        scene = dataset.scene(index)
        shown = [COLOURS[labels] for labels in (scene.labels, *(m[index] for m in maps.values()))]
        for axis, image in zip(row, (scene.image, *shown), strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(title, fontsize="x-small")
    for axis, title in zip(axes[0], ("scene", "truth", *folders), strict=True):
        axis.set_title(title, fontsize="small")
    figure.savefig(options.out)


def read_maps(folder: Path) -> dict[int, NDArray[np.integer]]:
    """Return the label maps of a folder by the scene's number."""
    return {
        int(path.stem.removeprefix("scene-")): read_indices(path)
        for path in sorted(folder.glob("scene-*.png"))
    }


def worst(dataset: DrawnDataset, maps: dict[int, NDArray[np.integer]]) -> list[int]:
    """Return the scenes with the most wrong pixels."""
    wrong = {index: float((maps[index] != dataset.labels(index)).mean()) for index in maps}
    return sorted(wrong, key=lambda index: -wrong[index])[:WORST]


if __name__ == "__main__":
    main()
