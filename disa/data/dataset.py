"""What every data set looks like to evaluation and training, and how one is opened: (name, DIR) -> Dataset.

Free of torch. DIR holds the official trees side by side, as `disa data list` shows them; "folder" is a data set of
one's own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from disa.data.benchmarks import find_benchmark
from disa.data.drawn import PICTUREBOOK, DrawnDataset
from disa.data.folder import open_folder
from disa.data.images import Pixels
from disa.data.masks import Labels
from disa.data.prepared import open_prepared
from disa.data.vocabulary import Vocabulary
from disa.errors import DisaError

FOLDER = "folder"


@runtime_checkable
class Dataset(Protocol):
    """Images with label maps, read when asked for. An instance can be pickled, for loading in other processes."""

    @property
    def name(self) -> str:
        """One of `VOCABULARIES`, or the folder's name."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """What the labels mean and what is prompted."""
        ...

    @property
    def ignored(self) -> int:
        """The value of pixels that do not count: 255, or 65535 where labels have 16 bits."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The images' ids, each once, in a fixed order; usable as file names."""
        ...

    def image(self, index: int) -> Pixels:
        """Return the picture as evaluated, uint8 (H, W, 3). Raises `DisaError` that names the file."""
        ...

    def labels(self, index: int) -> Labels:
        """Return the label map, (H, W) as the picture: a category's index in the vocabulary, or `ignored`.

        Raises `DisaError` that names the file, for one that is missing, damaged or of another size than its picture.
        """
        ...

    def image_content(self, index: int) -> str:
        """Return what tells a picture from any other under its id: size and digest of its file."""
        ...

    def mask_content(self, index: int) -> str:
        """Return the same of the mask, so that a corrected mask is not taken for the old one."""
        ...


def open_dataset(name: str, root: str | Path | None, split: str = "val") -> Dataset:
    """Open picturebook, a published data set (`benchmarks.BENCHMARKS`), or `FOLDER`, your own.

    Raises `DisaError` for an unknown name or split; a tree that is missing or half unpacked, naming
    the first file that it lacks; and one that must be prepared first, naming the command.
    """
    if name == PICTUREBOOK:
        if root is not None:
            raise DisaError(f"{PICTUREBOOK} is drawn, not read: leave out --data")
        return DrawnDataset(split)
    if name != FOLDER:
        find_benchmark(name).check_split(split)
    if root is None:
        raise DisaError(
            f"{name} needs --data DIR, the folder that holds it; disa data list shows what it "
            "looks like"
        )
    folder = Path(root)
    if name == FOLDER:
        return open_folder(folder, split)
    if not folder.is_dir():
        raise DisaError(f"{folder}: no such folder; --data names the folder of the data sets")
    benchmark = find_benchmark(name)
    if benchmark.prepared:
        return open_prepared(benchmark, folder, split)
    return benchmark.open(folder, split)
