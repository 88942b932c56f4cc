"""PASCAL-Context on 5,104 val images: `pc59` from run lengths, `pc459` from `.mat` files."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np

from disa.data.benchmark_record import Benchmark
from disa.data.images import read_size
from disa.data.masks import Values
from disa.data.pairs import Pair, listed_files, listed_pairs, read_list
from disa.data.rle import decode_rle
from disa.errors import DisaError, one_line
from disa.running.extras import imported, require
from disa.running.files import MAX_PIXELS
from disa.running.reading import MOST_ANNOTATION_BYTES, check_form, read_json

REMEDY_59 = (
    "unpack VOCtrainval_03-May-2010.tar and put trainval_merged.json beside it "
    "(`disa data list pc59`)"
)
REMEDY_459 = (
    "unpack VOCtrainval_03-May-2010.tar and PASCAL-Context's trainval.tar.gz "
    "(`disa data list pc459`)"
)
AGAIN = "fetch it again"
SOURCES = 460  # 0 is unlabelled, 1 to 459 are the categories of the full annotation
# Types of elements in .mat files; numbers, texts and matrices.
PACKED = 15
MATRIX = 14
KINDS = {*range(1, 8), 9, 12, 13, MATRIX, 16, 17, 18}
MOST_UNPACKED = 2**26  # bytes of a label map; those of VOC's pictures have 2 million at most
# Kinds of arrays in .mat files; the others hold text and objects.
NUMBERS = (
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("single", "double", "logical"),
)
PUBLISHED_LIST = Path(__file__).with_name("pascalcontext_val.txt")
PAGE = (
    "https://cs.stanford.edu/~roozbeh/pascal-context (masks), "
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2010 (pictures)"
)
TERMS = "masks: none stated, for research; pictures from Flickr, under Flickr's terms of use"
TREE = """\
VOCdevkit/
  VOC2010/
    JPEGImages/2008_000002.jpg ...
"""
TREE_59 = f"""{TREE}\
    trainval_merged.json            the annotation as merged by the PASCAL in Detail challenge
    pascalcontext_val.txt           optional: the ids come with disa"""
TREE_459 = f"""{TREE}\
    trainval/2008_000002.mat ...    from PASCAL-Context's trainval.tar.gz
    pascalcontext_val.txt           optional: the ids come with disa"""


# 8,191 squared is more than any picture of VOC has, and less than `MAX_PIXELS`.
Side = Annotated[int, range(1, 8192)]


class Image(TypedDict):
    """An image in `trainval_merged.json`."""

    image_id: int | str
    file_name: str
    height: Side
    width: Side


class Runs(TypedDict):
    """The pixels of a mask: (H, W), and run lengths as `rle` reads them."""

    size: list[int]
    counts: str | list[int]


class Segment(TypedDict):
    """A mask in `trainval_merged.json`."""

    image_id: int | str
    category_id: Annotated[int, range(2**16)]
    segmentation: Runs


class Merged(TypedDict):
    """What `trainval_merged.json` holds."""

    images: list[Image]
    annos_segmentation: list[dict[str, Any]]


class Annotations(NamedTuple):
    """The masks of an image as they lie in `trainval_merged.json`, in the order of the file."""

    # Id of the image, and its (H, W).
    image: str
    size: tuple[int, int]
    # Category and RLE counts of each mask.
    masks: list[tuple[int, str | list[int]]]


def find_pairs_59(root: Path, split: str) -> list[Pair]:
    """Return the images with their annotations; the whole annotation file goes into memory.

    Raises `DisaError` for a tree that is not whole, and for a damaged annotation file.
    """
    folder = root / "VOCdevkit" / "VOC2010"
    ids = val_ids(folder)
    images = listed_files(ids, folder / "JPEGImages", ".jpg", REMEDY_59)
    annotations = read_annotations(folder / "trainval_merged.json", ids)
    pairs = []
    for name, image in zip(ids, images, strict=True):
        # An image that the file does not know has no annotated pixel.
        masks = annotations.get(name) or Annotations(name, read_size(image), [])
        pairs.append(Pair(name, image, masks))
    return pairs


def find_pairs_459(root: Path, split: str) -> list[Pair]:
    """Return the images. Raises `DisaError` for a tree that is not whole, and without scipy."""
    # Without scipy no mask can be read, so it is better to fail before any work.
    require("pc459", "data", "scipy")
    folder = root / "VOCdevkit" / "VOC2010"
    return listed_pairs(
        val_ids(folder), folder / "JPEGImages", folder / "trainval", ".mat", REMEDY_459
    )


def val_ids(folder: Path) -> list[str]:
    """Return the ids of the val images: from `pascalcontext_val.txt` of VOC2010 if it is there.

    Without it, the published list that comes with disa (decision D69). Raises `DisaError`.
    """
    own = folder / "pascalcontext_val.txt"
    path = own if own.exists() else PUBLISHED_LIST
    return read_list(path, "remove it (the list comes with disa) or fetch it again")


def read_annotations(path: Path, ids: list[str]) -> dict[str, Annotations]:
    """Return the annotations of these images by id, for those that the file knows.

    Raises `DisaError` for a file that is missing, damaged or knows none of the images.
    """
    data: Merged = read_json(path, REMEDY_59, Merged, MOST_ANNOTATION_BYTES)
    wanted = set(ids)
    # The file numbers its images; masks refer to that number.
    by_number: dict[int | str, Annotations] = {}
    for image in data["images"]:
        name = Path(image["file_name"]).stem
        if name in wanted:
            size = (image["height"], image["width"])
            by_number[image["image_id"]] = Annotations(name, size, [])
    for entry in data["annos_segmentation"]:
        image_id = entry.get("image_id")
        own = by_number.get(image_id) if isinstance(image_id, int | str) else None
        # Only masks of the val images are looked at: the file has as many others.
        if own is not None:
            check_form(entry, Segment, f"{path}: a mask of image {image_id}", AGAIN)
            own.masks.append(_mask(path, entry, own.size))
    annotations = {annotations.image: annotations for annotations in by_number.values()}
    if not annotations:
        raise DisaError(
            f"{path}: knows none of the {len(ids):,} val images; is it trainval_merged.json?"
        )
    return annotations


def decode(annotations: Annotations) -> Values:
    """Return the category ids (H, W) of an image, 0 where nothing is annotated.

    Later masks lie over earlier ones. Raises `DisaError` for a damaged mask.
    """
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
    """Return the `LabelMap` (H, W) of a `.mat` file: 1 to 459, and 0 for unlabelled.

    Raises `DisaError` for a file that is missing, damaged or holds no such map.
    """
    io = imported("pc459", "data", "scipy.io")
    try:
        _check_types(path.read_bytes())
        # The size is judged before the map is decompressed.
        found = {name: (shape, kind) for name, shape, kind in io.whosmat(path)}
        shape, kind = found.get("LabelMap", ((), ""))
        is_map = len(shape) == 2 and kind in NUMBERS
        if not is_map or not 0 < shape[0] * shape[1] <= MAX_PIXELS:
            raise DisaError(f"{path}: holds no LabelMap (H, W), only {found}; {REMEDY_459}")
        values = np.asarray(io.loadmat(path, variable_names=["LabelMap"])["LabelMap"])
    except DisaError:
        raise
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file; {REMEDY_459}") from None
    except Exception as error:  # scipy meets damaged files with every kind of exception
        reason = one_line(error)
        raise DisaError(f"{path}: is damaged or no .mat file ({reason}); {REMEDY_459}") from None

    # Fractions and negative numbers would be looked up as some label.
    if values.dtype.kind not in "ui" or values.min() < 0:
        raise DisaError(
            f"{path}: its LabelMap has values that are no indices ({values.dtype}); {REMEDY_459}"
        )
    return values


def _check_types(content: bytes) -> None:
    """Raise `ValueError` for a .mat file with a type that there is not.

    scipy 1.17 looks it up outside of its table, which ends the process (decision D135).
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise ValueError("it is not of version 5")
    for kind, data in _elements(content[128:], order):
        if kind == PACKED:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(data, MOST_UNPACKED)
            if unpacker.unconsumed_tail:
                raise ValueError(f"it unpacks to more than {MOST_UNPACKED:,} bytes")
            kind, data = next(_elements(data, order), (0, b""))
        kinds = {kind, *(inner for inner, _ in _elements(data, order))}
        if kind != MATRIX or not kinds <= KINDS:
            raise ValueError(f"it holds the types {sorted(kinds)}")


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and bytes of what lies one after another in a .mat file."""
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        if kind >> 16:
            # Up to four bytes lie beside their type and size.
            yield kind & 0xFFFF, content[place + 4 : place + 8]
            place += 8
            continue
        yield kind, content[place + 8 : place + 8 + size]
        # Packed elements alone are not filled up to a multiple of eight.
        place += 8 + (size if kind == PACKED else -(-size // 8) * 8)


def _mask(path: Path, entry: Any, size: tuple[int, int]) -> tuple[int, str | list[int]]:
    """Return (category, counts) of one annotation, whose size must be its image's."""
    runs = entry["segmentation"]
    if runs["size"] != list(size):
        raise DisaError(
            f"{path}: a mask of image {entry['image_id']} has size {runs['size']}, the image "
            f"{list(size)}; {AGAIN}"
        )
    return entry["category_id"], runs["counts"]


PC59 = Benchmark(
    name="pc59",
    title="PASCAL-Context, its 59 most frequent categories",
    images={"val": 5_104},
    page=PAGE,
    terms=TERMS,
    tree=TREE_59,
    disk="2 GB, prepared: 0.1 GB",
    find_pairs=find_pairs_59,
    read_mask=decode,
    unlabelled=range(SOURCES),
    pictures="VOCdevkit/VOC2010/JPEGImages",
)

PC459 = Benchmark(
    name="pc459",
    title="PASCAL-Context, full annotation of 459 categories",
    images={"val": 5_104},
    page=PAGE,
    terms=TERMS,
    tree=TREE_459,
    disk="1.5 GB, prepared: 0.1 GB",
    find_pairs=find_pairs_459,
    read_mask=read_label_map,
    unlabelled=(0,),
    ignored=65535,
    pictures="VOCdevkit/VOC2010/JPEGImages",
)
