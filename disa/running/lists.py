"""Lists within one text: options and arguments that are read, messages that are written."""

import csv
from collections.abc import Sequence

from disa.errors import DisaError

# Quotes that keep no comma, and what closes them: those of a shell, and those of a word processor.
CLOSING = {
    "'": "'",
    "\N{LEFT SINGLE QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}",
    "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": "\N{LEFT DOUBLE QUOTATION MARK}",
    "\u00ab": "\u00bb",  # double angles
}


def split_list(text: str) -> tuple[str, ...]:
    """Split a text at its commas: '"red, round", sea' -> ("red, round", "sea"); "" -> ().

    Quotes around a part keep its commas, and a quote within such a part is doubled, as in CSV.
    Parts are stripped. Raises `DisaError` for a quote that does not end where its part does, and
    for other quotes around a comma.
    """
    # A line break is a space like any other: a list in a file may take several lines.
    line = text.translate(dict.fromkeys(map(ord, "\r\n\t"), " "))
    try:
        parts = next(csv.reader([line], skipinitialspace=True, strict=True))
    except csv.Error:
        raise DisaError(
            f"{text[:80]}: a quote must end just before a comma or the end of the list, as in "
            '"traffic light, red", car'
        ) from None
    stripped = tuple(part.strip() for part in parts)
    for position, part in enumerate(stripped):
        closing = CLOSING.get(part[:1])
        is_open = closing is not None and (len(part) == 1 or part[-1] != closing)
        if is_open and any(later[-1:] == closing for later in stripped[position + 1 :]):
            raise DisaError(
                f'{text[:80]}: only straight double quotes keep a comma, as in "traffic light, '
                'red", car'
            )
    return stripped


def first_of(parts: Sequence[str], most: int) -> str:
    """Return at most so many parts with commas between, and how many more there are."""
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more
