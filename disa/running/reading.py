"""Text and JSON from outside: how large, how deep and of which form, before anything uses it.

A form is declared as Python declares types: `list[str]`, `dict[str, int]`, `float | None`, or a
`TypedDict`, whose fields are the least that an object has (decision D131).
"""

import json
import math
import os
import re
from collections.abc import Iterator
from functools import cache
from itertools import repeat
from pathlib import Path
from reprlib import repr as short
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from disa.errors import DisaError, one_line

# Of what people and disa write, which takes up to 24 times as much memory; annotations of whole
# data sets are larger.
MOST_BYTES = 32 * 2**20
MOST_ANNOTATION_BYTES = 4 * 2**30
MOST_DEPTH = 64  # of lists in lists: deeper ones overflow the stack of whoever walks them
# Half of a character that takes two escapes; alone it is no text and cannot be printed.
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# A character that no name and no text on a command line can have.
ZERO = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Of a whole number that is too large for a `float`, 1.8e308.
LARGE = re.compile(r"\d{309}")
NAMES = {
    "NoneType": "null",
    "bool": "true or false",
    "dict": "an object",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "str": "text",
    "tuple": "a list",
}


def read_text(path: Path, remedy: str, most: int = MOST_BYTES) -> str:
    """Return the UTF-8 text in a file of at most `most` bytes.

    Raises `DisaError` that names the file and ends with `remedy`.
    """
    try:
        with path.open("rb") as file:
            # A pipe has no size, and a device may have no end.
            size = os.fstat(file.fileno()).st_size or most
            content = file.read(min(size, most) + 1)
    except FileNotFoundError:
        raise DisaError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DisaError(f"{path}: cannot be read ({reason}); {remedy}") from None
    if len(content) > most:
        raise DisaError(f"{path}: has more than {most:,} bytes; {remedy}")
    return decode_text(content, str(path), f"save it as such, or {remedy}")


def decode_text(content: bytes, name: str, remedy: str) -> str:
    """Return the text in UTF-8 bytes, which messages call `name`. Raises `DisaError`."""
    try:
        # Some editors on Windows put a mark before the text, which this encoding skips.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DisaError(f"{name}: is not UTF-8 text (byte {error.start + 1}); {remedy}") from None


def read_json(path: Path, remedy: str, form: Any = object, most: int = MOST_BYTES) -> Any:
    """Return the data in a JSON file of at most `most` bytes.

    Raises `DisaError` that names the file and the first value that is not of the `form`, and ends
    with `remedy`.
    """
    return parse_json(read_text(path, remedy, most), str(path), remedy, form)


def parse_json(text: str, name: str, remedy: str, form: Any = object) -> Any:
    """Return the data in JSON text, which messages call `name`. Raises as `read_json` does."""
    try:
        data = json.loads(text)
        if ZERO.search(text):
            raise ValueError("a text holds a zero character")
        if LARGE.search(text):
            raise ValueError("a number has more than 308 digits")
        if SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DisaError(f"{name}: cannot be read as JSON ({one_line(error)}); {remedy}") from None
    if _is_deep(data):
        raise DisaError(f"{name}: holds lists in lists, more than {MOST_DEPTH} deep; {remedy}")
    check_form(data, form, name, remedy)
    return data


def check_form(data: Any, form: Any, name: str, remedy: str) -> None:
    """Raise `DisaError` that names the first value that is not of the form, and where it is."""
    fault = misfit(data, form)
    if fault is not None:
        raise DisaError(f"{name}: {fault}; {remedy}")


def misfit(data: Any, form: Any, place: str = "") -> str | None:
    """Return which value is not of the form; None if all are.

    `Annotated[int, range(1, 9)]` is a whole number from 1 to 8. True is no number, and neither is
    infinity; a whole number will do for `float`.
    """
    kind = get_origin(form) or form
    parts = get_args(form)
    if kind is NotRequired:
        return misfit(data, parts[0], place)
    if kind is Annotated:
        fault = misfit(data, parts[0], place)
        if fault is None and data not in parts[1]:
            fault = _fault(data, f"{parts[1].start} to {parts[1].stop - 1}", place)
        return fault
    if kind in (Union, UnionType) and data is not None and len(parts) == 2 and parts[1] is NoneType:
        return misfit(data, parts[0], place)
    if not _is_of(data, kind, parts):
        return _fault(data, _name(form), place)
    if is_typeddict(kind):
        missing = sorted(kind.__required_keys__ - data.keys())
        if missing:
            named = f'"{place}" ' if place else ""
            return f'{named}lacks "{missing[0]}"'
    faults = (misfit(*each) for each in _inner(data, kind, parts, place))
    return next((fault for fault in faults if fault is not None), None)


def _is_of(data: Any, kind: Any, parts: tuple[Any, ...]) -> bool:
    """Tell whether a value is of a form, whatever is in it."""
    if kind in (object, Any):
        return True
    if kind in (Union, UnionType):
        return any(misfit(data, part) is None for part in parts)
    if kind is Literal:
        return any(type(data) is type(part) and data == part for part in parts)
    if kind is tuple:
        return type(data) is list and (... in parts or len(data) == len(parts))
    if kind is float:
        return type(data) is int or (type(data) is float and math.isfinite(data))
    return type(data) is (dict if is_typeddict(kind) else kind)


def _inner(data: Any, kind: Any, parts: tuple[Any, ...], place: str) -> Iterator[Any]:
    """Yield each value within a list or an object, its form and its place."""
    before = f"{place}." if place else ""
    if is_typeddict(kind):
        for name, form in _fields(kind).items():
            if name in data:
                yield data[name], form, f"{before}{name}"
    elif kind is dict and parts:
        for name, value in data.items():
            yield value, parts[1], f"{before}{name}"
    elif kind in (list, tuple) and parts:
        forms = repeat(parts[0]) if kind is list or ... in parts else parts
        for index, (value, form) in enumerate(zip(data, forms, strict=False)):
            yield value, form, f"{place}[{index}]"


@cache
def _fields(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _fault(data: Any, wanted: str, place: str) -> str:
    named = f'"{place}" ' if place else ""
    return f"{named}is {short(data)[:80]}, expected {wanted}"


def _name(form: Any) -> str:
    """Return what messages call a form."""
    kind = get_origin(form) or form
    if kind in (Union, UnionType):
        return " or ".join(map(_name, get_args(form)))
    if kind is Literal:
        return " or ".join(map(repr, get_args(form)))
    if kind is Annotated:
        return _name(get_args(form)[0])
    if kind is tuple and ... not in get_args(form):
        return f"a list of {len(get_args(form))}"
    return NAMES["dict" if is_typeddict(kind) else kind.__name__]


def _is_deep(data: Any) -> bool:
    """Tell whether lists or objects lie more than `MOST_DEPTH` deep in one another."""
    level = [data] if isinstance(data, (dict, list)) else []
    for _ in range(MOST_DEPTH):
        level = [
            value
            for holder in level
            for value in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(value, (dict, list))
        ]
    return bool(level)
