"""What a data set holds and what is wrong with it: every picture and mask is read -> counts, histogram, problems."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from disa.data.pairs import PairedDataset
from disa.data.parallel import each_part
from disa.errors import DisaError


@dataclass
class Findings:
    """Sums over the images that were read; `+=` adds those of other images.

    `pixels` and `images` count by the masks' own values: pixels, and images in which the value occurs.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    """Ids of images in which every pixel is ignored."""
    problems: list[str] = field(default_factory=list)
    """What is wrong, a line each, naming the file."""

    def __iadd__(self, other: "Findings") -> "Findings":
        """Add what was found in other images."""
        self.pixels += other.pixels
        self.images += other.images
        self.empty += other.empty
        self.problems += other.problems
        return self


def check(
    dataset: PairedDataset, workers: int | None, progress: Callable[[int, int], None]
) -> Findings:
    """Read every picture and mask in parallel; `progress` is told (done, of how many)."""
    total = Findings()
    done = 0
    progress(0, len(dataset.ids))
    for count, found in each_part(_check_part, dataset, range(len(dataset.ids)), workers):
        total += found
        done += count
        progress(done, len(dataset.ids))
    total.empty.sort()
    total.problems.sort()
    return total


def _check_part(part: PairedDataset) -> Findings:
    found = Findings()
    sources = set(part.vocabulary.source_ids)
    for index, name in enumerate(part.ids):
        try:
            part.image(index)
            values, counts = np.unique(part.values(index), return_counts=True)
        except DisaError as error:
            found.problems.append(str(error))
            continue
        pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        found.pixels.update(pixels)
        found.images.update(pixels.keys())
        if not pixels.keys() & sources:
            found.empty.append(name)
        if strange := part.strange(pixels):
            shown = ", ".join(f"{value} ({pixels[value]:,} pixels)" for value in strange[:5])
            found.problems.append(
                f"{part.mask_name(index)}: holds {shown}, which stands for nothing; unpack it again"
            )
    return found
