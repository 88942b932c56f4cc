"""Run-length encoded masks in COCO's form: run lengths, as a list or as text, become a mask (H, W).

pycocotools (2.0.11) is not used: where runs are too few it leaves pixels as the memory happened to
be, and it crashes on damaged text (decision D66).
"""

import numpy as np
from numpy.typing import NDArray

LONGEST = 10  # characters of one number; five bits each


def decode_rle(counts: str | list[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (H, W). Runs go down the columns, of zeros and ones in turn, zeros first.

    Raises `ValueError` for runs that do not fill the size exactly.
    """
    height, width = size
    runs = run_lengths(counts) if isinstance(counts, str) else counts
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"its runs do not fill {height} x {width} pixels")
    ones = np.arange(len(runs)) % 2 == 1
    return np.repeat(ones, runs).reshape(size, order="F")


def run_lengths(text: str) -> list[int]:
    """Return the numbers in COCO's text form; from the fourth on it holds differences.

    A character carries five bits, low ones first; bit 6 says that more follow. A difference is to
    the number two before. Raises `ValueError` for other text.
    """
    runs: list[int] = []
    value = 0
    shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift >= 5 * LONGEST:
            raise ValueError(f"{character!r} is out of place in its run lengths")
        value |= (bits & 31) << shift
        shift += 5
        more_follow = bits & 32
        if more_follow:
            continue

        # The highest bit of the last character is the sign.
        if bits & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        runs.append(value)
        value = 0
        shift = 0
    if shift:
        raise ValueError("its run lengths end within a number")
    return runs
