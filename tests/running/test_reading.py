"""What comes from outside: its size, its depth and its form, and the message for what is wrong."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from refusals import refused

from disa.running.files import write_json
from disa.running.reading import MOST_DEPTH, misfit, parse_json, read_json, read_text


def test_json_comes_back(tmp_path: Path):
    path = tmp_path / "a.json"
    data = {"name": "naïve", "numbers": [1, 2.5, None]}
    write_json(path, data)
    assert read_json(path, "") == data
    path.write_text("\ufeff" + json.dumps(data), encoding="utf-8")
    assert read_json(path, "") == data


DEEP = "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a": "\xff"}',
        b'["\\ud800"]',
        b'["\\u0000"]',
        DEEP.encode(),
        b"9" * 5000,
        None,
    ],
)
def test_json_that_cannot_be_read_names_the_file_and_the_remedy(
    tmp_path: Path, content: bytes | None
):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with refused(path, "fetch it again"):
        read_json(path, "fetch it again")


def test_depth_and_escapes_within_the_limits_are_read():
    for text in (DEEP[1:-1], '"\\ud83d\\ude00"', '"\\\\u0000"'):
        assert parse_json(text, "a", "") == json.loads(text)


def test_no_more_is_read_than_allowed(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"12345")
    assert read_text(path, "", most=5) == "12345"
    with refused(path, "4", "shorten it"):
        read_text(path, "shorten it", most=4)
    # Without an end, and without a size.
    if Path("/dev/zero").exists():
        with refused("/dev/zero", "1,000"):
            read_text(Path("/dev/zero"), "", most=1000)


@pytest.mark.parametrize("name", ["a" * 300, "a/b\0c", "."])
def test_names_of_no_file_are_refused(tmp_path: Path, name: str):
    with refused("give another"):
        read_text(tmp_path / name, "give another")


class Word(TypedDict):
    word: str
    share: NotRequired[float | None]


class Result(TypedDict):
    height: Annotated[int, range(1, 9)]
    words: list[Word]
    pairs: NotRequired[dict[str, tuple[int, int]]]
    kind: NotRequired[Literal["thing", 2]]
    more: NotRequired[Any]


WHOLE = {
    "height": 8,
    "words": [{"word": "sea", "share": 0.5}, {"word": "sky", "share": None}],
    "pairs": {"a": [1, 2]},
    "kind": 2,
    "more": [{}],
    "unknown": 1,
}


@pytest.mark.parametrize(
    ("place", "value", "facts"),
    [
        ((), 3, ["3", "object"]),
        (("height",), 9, ["height", "9", "8"]),
        (("height",), True, ["height", "True"]),
        (("height",), 10**4000, ["height"]),
        (("words",), {}, ["words", "list"]),
        (("words", 1), {}, ["words[1]", '"word"']),
        (("words", 1, "word"), None, ["words[1].word", "text"]),
        (("words", 0, "share"), float("inf"), ["words[0].share", "inf", "number"]),
        (("pairs", "a"), [1], ["pairs.a", "2"]),
        (("pairs", "a", 1), 1.5, ["pairs.a[1]", "1.5", "whole"]),
        (("kind",), 2.0, ["kind", "2.0", "thing"]),
        (("kind",), "x" * 10**6, ["kind"]),
    ],
)
def test_the_first_value_of_another_form_is_named(place: tuple, value: object, facts: list[str]):
    data = json.loads(json.dumps(WHOLE))
    assert misfit(data, Result) is None
    holder = {"": data}
    *outer, last = ("", *place)
    for key in outer:
        holder = holder[key]
    holder[last] = value
    fault = misfit(data if place else value, Result)
    assert fault is not None and len(fault) < 200
    for fact in facts:
        assert fact in fault
