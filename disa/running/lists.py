"""Lists within one text, wherever an option or a function takes one."""

import csv

from disa.errors import DisaError


def split_list(text: str) -> tuple[str, ...]:
    """Split a text at its commas: '"red, round", sea' -> ("red, round", "sea"); "" -> ().

    Quotes around a part keep its commas, and a quote within such a part is doubled, as in CSV.
    Parts are stripped. Raises `DisaError` for a quote that does not end where its part does.
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
    return tuple(part.strip() for part in parts)
