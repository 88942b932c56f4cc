"""Pages of the documentation as programs: their code blocks, which tests run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: its language, the file or remark in its title, and what it says."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page, by its path in the repository."""
    return blocks_of((ROOT / page).read_text(encoding="utf-8"))


def blocks_of(text: str) -> list[Block]:
    """Return the code blocks of a text."""
    return [Block(*found) for found in BLOCK.findall(text)]


def commands(code: str) -> Iterator[list[str]]:
    """Yield the words behind `disa` of every line that starts it."""
    for line in code.replace("\\\n", " ").splitlines():
        if found := re.match(r"(?:torchrun .* -m )?disa (?!--)(.*)", line):
            yield shlex.split(found[1], comments=True)


def patched(text: str, diff: str) -> str:
    """Apply a diff without line numbers: each of its places must be in the text exactly once."""
    for place in diff.split("@@\n"):
        lines = place.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        after = "".join(line[1:] for line in lines if line[0] != "-")
        assert text.count(before) == 1, f"{text.count(before)} times in the file:\n{before}"
        text = text.replace(before, after)
    return text
