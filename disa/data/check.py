"""What a data set holds and what is wrong with it, found by reading every picture and mask."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from disa.data.images import read_picture
from disa.data.pairs import PairedDataset
from disa.data.parallel import each_part
from disa.errors import DisaError


@dataclass
class Findings:
    """Sums over the images that were read; `+=` adds those of other images."""

    # Number of pixels by their value in the masks, and of images in which that value occurs.
    pixels: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    # Ids of images whose pixels are all ignored.
    empty: list[str] = field(default_factory=list)
    # What is wrong, a line each that names the file.
    problems: list[str] = field(default_factory=list)
    # How many pictures are turned by their EXIF orientation, and what is odd about pictures.
    turned: int = 0
    notes: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Findings") -> "Findings":
        """Add the findings in other images."""
        self.pixels += other.pixels
        self.images += other.images
        self.empty += other.empty
        self.problems += other.problems
        self.turned += other.turned
        self.notes += other.notes
        return self


def check(
    dataset: PairedDataset, workers: int | None, report: Callable[[int, int], None]
) -> Findings:
    """Read every picture and mask in parallel; `report` is told (images done, images in all)."""
    findings = Findings()
    indices = range(len(dataset.ids))
    for part_findings in each_part(_check_part, dataset, indices, workers, report):
        findings += part_findings
    # Parts come in any order; the report is the same every time.
    findings.empty.sort()
    findings.problems.sort()
    findings.notes.sort()
    return findings


def _check_part(part: PairedDataset) -> Findings:
    findings = Findings()
    sources = set(part.vocabulary.source_ids)
    for index, name in enumerate(part.ids):
        try:
            picture = read_picture(part.pairs[index].image, part.reading)
            findings.turned += picture.is_turned
            findings.notes += picture.notes
            values, counts = np.unique(part.values(index), return_counts=True)
        except DisaError as error:
            findings.problems.append(str(error))
            continue

        pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        findings.pixels.update(pixels)
        findings.images.update(pixels.keys())
        if not pixels.keys() & sources:
            findings.empty.append(name)
        if unknown := part.unknown_values(pixels):
            pixels_of = {value: pixels[value] for value in unknown}
            findings.problems.append(part.describe_unknown(index, pixels_of))
    return findings
