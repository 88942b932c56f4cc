"""PASCAL-Context on the 5,104 val images of `VOCdevkit/VOC2010`: `pc59` from RLE, `pc459` from `.mat` -> pairs."""

import json
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from disa.data.images import read_size
from disa.data.masks import Values
from disa.data.pairs import Pair, PairedDataset, listed_files, read_list
from disa.data.rle import decode_rle
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError
from disa.running.files import MAX_PIXELS

REMEDY_59 = "unpack VOCtrainval_03-May-2010.tar and put trainval_merged.json beside it (`disa data list pc59`)"
REMEDY_459 = "unpack VOCtrainval_03-May-2010.tar and PASCAL-Context's trainval.tar.gz (`disa data list pc459`)"
SOURCES = 460  # 0 is unlabelled, 1 to 459 are the categories of the full annotation


class Annotations(NamedTuple):
    """An image's masks as they lie in `trainval_merged.json`: id, (H, W), (category id, RLE counts) in file order."""

    image: str
    size: tuple[int, int]
    masks: list[tuple[int, str | list[int]]]


def open_pc59(root: Path, split: str) -> PairedDataset:
    """Open the 59 categories; reads the whole annotation file into memory. Raises `DisaError`."""
    folder = root / "VOCdevkit" / "VOC2010"
    ids = val_ids(folder)
    images = listed_files(ids, folder / "JPEGImages", ".jpg", REMEDY_59)
    annotated = read_annotations(folder / "trainval_merged.json", ids)
    masks = [
        annotated.get(name) or Annotations(name, read_size(image), [])
        for name, image in zip(ids, images, strict=True)
    ]
    pairs = [Pair(*each) for each in zip(ids, images, masks, strict=True)]
    return PairedDataset("pc59", load_vocabulary("pc59"), pairs, decode, unlabelled=range(SOURCES))


def open_pc459(root: Path, split: str) -> PairedDataset:
    """Open the 459 categories, in 16 bits. Raises `DisaError` for a tree that is not whole, and without scipy."""
    _scipy_io()
    folder = root / "VOCdevkit" / "VOC2010"
    ids = val_ids(folder)
    images = listed_files(ids, folder / "JPEGImages", ".jpg", REMEDY_459)
    masks = listed_files(ids, folder / "trainval", ".mat", REMEDY_459)
    pairs = [Pair(*each) for each in zip(ids, images, masks, strict=True)]
    return PairedDataset(
        "pc459", load_vocabulary("pc459"), pairs, read_label_map, ignored=65535, unlabelled=(0,)
    )


def val_ids(folder: Path) -> list[str]:
    """Return the val images' ids: those of VOC2010's `pascalcontext_val.txt`, or else the 5,104 published (D69)."""
    own = folder / "pascalcontext_val.txt"
    if own.exists():
        return read_list(own, "remove it (the list comes with disa) or fetch it again")
    steps = json.loads(
        Path(__file__).with_name("pascal_context_val.json").read_text(encoding="utf-8")
    )
    return [f"{year}_{number:06d}" for year, jumps in steps.items() for number in accumulate(jumps)]


def read_annotations(path: Path, ids: list[str]) -> dict[str, Annotations]:
    """Return the annotations of these images by id; one without any is left out, unless the file lists its size.

    Raises `DisaError` for a file that is missing, damaged or knows none of the images.
    """
    try:
        with path.open("rb") as file:
            data = json.load(file)
        wanted = set(ids)
        found: dict[Any, Annotations] = {}
        for image in data["images"]:
            if (name := Path(image["file_name"]).stem) in wanted:
                found[image["image_id"]] = Annotations(
                    name, (int(image["height"]), int(image["width"])), []
                )
        for each in data["annos_segmentation"]:
            if each["image_id"] in found:
                found[each["image_id"]].masks.append(_mask(each, found[each["image_id"]].size))
    except OSError as error:
        raise DisaError(f"{path}: cannot be read ({error.strerror}); {REMEDY_59}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise DisaError(
            f"{path}: is damaged or no trainval_merged.json ({reason}); fetch it again"
        ) from None
    if not found:
        raise DisaError(
            f"{path}: knows none of the {len(ids):,} val images; is it trainval_merged.json?"
        )
    return {each.image: each for each in found.values()}


def decode(annotations: Annotations) -> Values:
    """Return the category ids (H, W) of an image, 0 where nothing is annotated; later masks lie over earlier ones."""
    values = np.zeros(annotations.size, np.uint16)
    for category, counts in annotations.masks:
        try:
            values[decode_rle(counts, annotations.size)] = category
        except ValueError as error:
            reason = f"{annotations.image}, category {category}: {error}"
            raise DisaError(
                f"trainval_merged.json: a mask is damaged ({reason}); fetch it again"
            ) from None
    return values


def read_label_map(path: Path) -> Values:
    """Return the `LabelMap` of a `.mat` file, 1 to 459, and 0 for unlabelled. Nothing is subtracted, so nothing wraps.

    The size is judged before the map is decompressed. Raises `DisaError`.
    """
    io = _scipy_io()
    try:
        shapes = {name: shape for name, shape, _ in io.whosmat(path)}
        shape = shapes.get("LabelMap", ())
        if len(shape) != 2 or not 0 < shape[0] * shape[1] <= MAX_PIXELS:
            raise DisaError(f"{path}: holds no LabelMap (H, W), only {shapes}; {REMEDY_459}")
        values = np.asarray(io.loadmat(path, variable_names=["LabelMap"])["LabelMap"])
    except DisaError:
        raise
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file; {REMEDY_459}") from None
    except Exception as error:  # scipy meets damaged files with every kind of exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DisaError(f"{path}: is damaged or no .mat file ({reason}); {REMEDY_459}") from None
    if values.dtype.kind not in "ui" or values.min() < 0:
        raise DisaError(
            f"{path}: its LabelMap has values that are no indices ({values.dtype}); {REMEDY_459}"
        )
    return values


def _mask(entry: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, str | list[int]]:
    """Return (category, counts) of one annotation, judging its size before anything is decoded."""
    rle = entry["segmentation"]
    if tuple(rle["size"]) != size or not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise ValueError(
            f"a mask of image {entry['image_id']} has size {rle['size']}, the image {list(size)}"
        )
    category = int(entry["category_id"])
    if not 0 <= category < 2**16:
        raise ValueError(f"image {entry['image_id']} has category {category}")
    if not isinstance(rle["counts"], str | list):
        raise ValueError(f"a mask of image {entry['image_id']} has no counts")
    return category, rle["counts"]


def _scipy_io() -> Any:
    """Return `scipy.io`, which reads `.mat` files. Raises `DisaError` that says how to install it."""
    try:
        from scipy import io
    except ImportError:
        raise DisaError("pc459 is read with scipy; install it: pip install scipy") from None
    return io
