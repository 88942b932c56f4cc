"""What every data set looks like to evaluation and training, and how one is opened by its name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from disa.data.benchmarks import find_benchmark
from disa.data.drawn import PICTUREBOOK, DrawnDataset
from disa.data.folder import open_folder
from disa.data.images import Pixels, real_path
from disa.data.masks import Labels
from disa.data.pairs import PairedDataset
from disa.data.prepared import open_prepared
from disa.data.vocabulary import Vocabulary
from disa.errors import DisaError

FOLDER = "folder"  # the name of a data set of your own


@runtime_checkable
class Dataset(Protocol):
    """Images with label maps, read when asked for.

    An instance can be pickled, to be read in other processes.
    """

    @property
    def name(self) -> str:
        """Name of the data set; for one of your own, that of its folder."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the labels mean and what is prompted."""

    @property
    def ignored(self) -> int:
        """The value of pixels that do not count: 255, or 65535 where labels have 16 bits."""

    @property
    def ids(self) -> Sequence[str]:
        """The images' ids, each once, in a fixed order; usable as file names."""

    def image(self, index: int) -> Pixels:
        """Return the picture, uint8 (H, W, 3). Raises `DisaError` that names the file."""

    def labels(self, index: int) -> Labels:
        """Return the label map (H, W): indices into the categories, or `ignored`.

        Raises `DisaError` that names the file, for one that is missing, damaged or of another size
        than its picture.
        """

    def image_content(self, index: int) -> str:
        """Return size and digest of the picture's file, which differ for any other picture."""

    def mask_content(self, index: int) -> str:
        """Return the same of the mask, so that a corrected mask is not taken for the old one."""


def open_dataset(name: str, root: str | Path | None, split: str = "val") -> Dataset:
    """Open picturebook, a published data set (`benchmarks.BENCHMARKS`), or `FOLDER`, your own.

    Raises `DisaError` for an unknown name or split; for a tree that is missing or half unpacked,
    with the first file that it lacks; and for a data set that must be prepared, with the command.
    """
    if name == PICTUREBOOK:
        if root is not None:
            raise DisaError(f"{PICTUREBOOK} is drawn, not read: leave out --data")
        return DrawnDataset(split)
    return open_files(name, root, split)


def keep_apart(dataset: Dataset, *places: Path | None) -> None:
    """Raise `DisaError` for a place to write to that lies among images or masks, or is a list."""
    if not isinstance(dataset, PairedDataset):
        return
    files = (file for pair in dataset.pairs for file in (pair.image, pair.mask))
    folders = {file.parent for file in files if isinstance(file, Path)}
    own = {real_path(path) for path in (*folders, *dataset.lists)}
    for place in places:
        if place is None:
            continue
        real = real_path(place)
        if own & {real, *real.parents}:
            raise DisaError(
                f"{place}: is among the files of {dataset.name}; choose another place for the "
                "results"
            )


def open_files(
    name: str, root: str | Path | None, split: str = "val", official: bool = False
) -> PairedDataset:
    """Open a data set that lies in files; `official` reads a benchmark's own files even if slow.

    Raises `DisaError` as `open_dataset` does.
    """
    benchmark = None if name == FOLDER else find_benchmark(name)
    if benchmark is not None:
        benchmark.check_split(split)
    if root is None:
        raise DisaError(
            f"{name} needs --data DIR, the folder that holds it; disa data list shows what it "
            "looks like"
        )
    # Your own data set is DIR itself; benchmarks lie side by side in it.
    folder = Path(root)
    if benchmark is None:
        return open_folder(folder, split)
    if not folder.is_dir():
        raise DisaError(
            f"{folder}: no such folder; it holds the data sets as `disa data list {name}` shows"
        )
    if benchmark.is_prepared and not official:
        return open_prepared(benchmark, folder, split)
    return benchmark.open_official(folder, split)
