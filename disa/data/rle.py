"""Run-length encoded masks in COCO's form: run lengths, as a list or as text, and back.

pycocotools (2.0.11) is not used: where runs are too few it leaves pixels as the memory happened to
be, and it crashes on damaged text (decision D66).
"""

from typing import Any

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


def encode_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask (H, W) as {"size": [H, W], "counts": text}, as COCO's tools write it."""
    differences = _differences(runs_of(mask.ravel(order="F")))
    return {"size": list(mask.shape), "counts": "".join(map(_characters, differences))}


def runs_of(pixels: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of the runs of zeros and ones in turn, zeros first."""
    # Where a run begins; without the zero before all they would begin with ones.
    starts = np.flatnonzero(np.diff(pixels, prepend=False))
    return np.diff(starts, prepend=0, append=pixels.size).tolist()


def _differences(runs: list[int]) -> list[int]:
    """Return the first three numbers as they are, the others less the number two before."""
    return runs[:3] + [run - before for run, before in zip(runs[3:], runs[1:], strict=False)]


def _characters(value: int) -> str:
    """Return a number in COCO's text form, five bits a character, low ones first."""
    text = ""
    while True:
        bits = value & 31
        value >>= 5
        # The last character's highest bit must be the sign.
        is_last = value == (-1 if bits & 16 else 0)
        text += chr(48 + (bits if is_last else bits | 32))
        if is_last:
            return text


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
