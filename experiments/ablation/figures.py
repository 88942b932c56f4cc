"""What the networks look at, as one picture.

A row is a label in a test scene. The columns are the scene, the label's true mask, and each
network's saliency with the outline of its foreground tokens.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from disa.inference.segmenter import Segmenter, load
from disa.picturebook import NOUNS, TEST_SEED, Scene, render

SCENES = (3, 7, 11, 20)  # test scenes, chosen before any network was trained
SIDE = 96  # pixels
WHOLE = (0, SIDE, SIDE, 0)  # where a coarser map lies on the scene: left, right, bottom, top


def save_saliency(models: Mapping[str, Path], path: Path) -> None:
    """Draw the networks, by name and model folder, into a PNG."""
    rows = [(scene, label) for scene in draw_scenes() for label in labels_of(scene)]
    width = len(models) + 2
    figure = Figure(figsize=(2 * width, 2 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), width, squeeze=False)
    for (scene, label), (left, second, *_) in zip(rows, axes, strict=True):
        left.imshow(scene.image)
        left.set_ylabel(NOUNS[label])
        second.imshow(scene.labels == label, "gray")
    for name, column in zip(["scene", "true mask", *models], axes[0], strict=True):
        column.set_title(name, wrap=True, fontsize="small")

    for column, folder in zip(axes.T[2:], models.values(), strict=True):
        segmenter = load(folder, "cpu")
        for axis, (scene, label) in zip(column, rows, strict=True):
            show_saliency(axis, segmenter, scene, label)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path)


def draw_scenes() -> list[Scene]:
    """Return the scenes of the picture."""
    return [render(TEST_SEED, number, SIDE) for number in SCENES]


def labels_of(scene: Scene) -> list[int]:
    """Return the largest and the smallest label of a scene."""
    labels, pixels = np.unique(scene.labels, return_counts=True)
    return [int(labels[pixels.argmax()]), int(labels[pixels.argmin()])]


def show_saliency(axis: Axes, segmenter: Segmenter, scene: Scene, label: int) -> None:
    """Draw the scene in grey, warm where the label looks, with its foreground tokens outlined."""
    pixels = torch.from_numpy(scene.image.transpose(2, 0, 1).copy())[None].float()  # 1 3 H W
    with torch.inference_mode():
        prediction = segmenter.model(pixels, segmenter.text(NOUNS))
    axis.imshow(scene.image.mean(-1), "gray")
    if prediction.saliency is None or prediction.foreground is None:
        return  # a network without the SDM
    saliency = prediction.saliency[0, label]  # h w
    axis.imshow(saliency, "inferno", alpha=0.6, extent=WHOLE, interpolation="bilinear")
    axis.contour(enlarge(prediction.foreground[0, label].numpy()), [0.5], colors="deepskyblue")


def enlarge(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map of tokens as one of pixels."""
    return np.kron(grid, np.ones((SIDE // len(grid),) * 2, np.float32))
