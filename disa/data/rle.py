"""Run-length encoded masks in COCO's form: run lengths, as a list or as text -> mask (H, W).

An own reader, because pycocotools (2.0.11) leaves pixels as the memory happened to be where runs are too few, and
crashes on damaged text (D66).
"""

import numpy as np
from numpy.typing import NDArray

LONGEST = 10  # characters of one number; five bits each


def decode_rle(counts: str | list[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (H, W): runs go down the columns, of zeros and ones in turn, zeros first.

    Raises `ValueError` for runs that do not fill the size exactly.
    """
    runs = run_lengths(counts) if isinstance(counts, str) else counts
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError(f"its runs do not fill {size[0]} x {size[1]} pixels")
    ones = np.arange(len(runs)) % 2 == 1
    return np.repeat(ones, runs).reshape(size, order="F")


def run_lengths(text: str) -> list[int]:
    """Return the numbers in COCO's text form: five bits a character, low ones first, bit 6 says that more follow.

    From the fourth on they are differences to the number two before. Raises `ValueError` for other text.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift >= 5 * LONGEST:
            raise ValueError(f"{character!r} is out of place in its run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift  # a negative difference
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("its run lengths end within a number")
    return runs
