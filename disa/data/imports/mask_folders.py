"""Folders of masks in VOC's layout: VOC itself, CVAT's masks (labelmap.txt), and labelme's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from disa.data.imports.annotations import AnnotatedPicture, Annotations, Canvas, Pictures
from disa.data.masks import VOID, Values, read_colours, read_indices
from disa.data.pairs import files_by_stem, read_list
from disa.data.vocabulary import Category, categories_of, load_vocabulary, packed, read_class_file

MASKS = ("SegmentationClassPNG", "SegmentationClass")
# labelme writes coloured previews and outlines of instances beside them.
NO_PICTURES = (
    *MASKS,
    "SegmentationClassVisualization",
    "SegmentationObject",
    "SegmentationObjectPNG",
    "SegmentationObjectVisualization",
)
CLASSES = ("labelmap.txt", "class_names.txt")
ORDER = "a mask has one category a pixel"
# The borders of things, in VOC's colour for them, which CVAT does not list.
VOID_COLOUR = (packed((224, 224, 192)),)
REMEDY = "export the masks again"


def read_mask_folder(masks: Path, folder: Path) -> Annotations:
    """Return what a folder of masks holds; pictures lie below `folder`.

    Categories are those of `labelmap.txt` or `class_names.txt` beside the folder, else VOC's.
    Raises `DisaError` for a folder without masks and for lists that cannot be read.
    """
    root = masks.parent
    given, in_colours = _categories(root)
    found = Annotations("masks in VOC's layout", ORDER)
    labels = {}
    for category in given:
        name = category.name.strip("_")  # labelme's "_background_"
        labels[category.source_id] = found.categories.add(name, category.kind)

    pictures = Pictures(folder, without=[root / name for name in NO_PICTURES])
    read = read_colours if in_colours else read_indices
    void = VOID_COLOUR if in_colours else VOID
    for stem, mask in files_by_stem(masks, (".png",), REMEDY).items():
        draw = partial(_draw, mask=mask, read=read, labels=labels, void=void)
        found.pictures.append(AnnotatedPicture(stem, pictures.find(stem), draw))

    for split in ("train", "val"):
        listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if listed.is_file():
            found.splits[split] = [Path(line).stem for line in read_list(listed, REMEDY)]
    return found


def _categories(root: Path) -> tuple[list[Category], bool]:
    """Return the categories by the values in masks, and whether these are colours."""
    for name in CLASSES:
        if (root / name).is_file():
            class_file = read_class_file(root / name)
            return categories_of(class_file), class_file.has_colours()
    voc = load_vocabulary("pas20b").categories
    return sorted(voc, key=lambda category: category.source_id or 0), False


def _draw(
    canvas: Canvas,
    mask: Path,
    read: Callable[[Path], Values],
    labels: dict[int | None, int],
    void: tuple[int, ...],
) -> None:
    values = read(mask)
    for value in np.unique(values).tolist():
        if value not in labels and value not in void:
            canvas.leave_out("of a value that no category has")
        canvas.paint(labels.get(value), values == value)
