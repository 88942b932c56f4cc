"""What documents and comments refer to exists: decisions, quirks, files, functions, tests."""

import re
from pathlib import Path

import pytest
from pages import ROOT, blocks_of, commands

from disa.interfaces.cli import COMMANDS, parse

FOLDERS = ("disa", "tests", "benchmarks", "experiments", "docs")
TEXTS = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".md") and path != Path(__file__)
] + [ROOT / "README.md"]
PAGES = [path for path in TEXTS if path.suffix == ".md"]
INDEX = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
DECISIONS = {
    f"decisions/{path.name}": [
        int(number)
        for number in re.findall(r"^- \*\*D(\d+)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    for path in ROOT.glob("docs/decisions/*.md")
}
BASELINE = (ROOT / "docs/baseline.md").read_text(encoding="utf-8")
PAPER = (ROOT / "docs/paper.md").read_text(encoding="utf-8")

# "decision D5", "decisions D5 and D7", "(D5)"
DECISION = re.compile(r"(?:[Dd]ecisions? |\()D(\d+)(?: and D(\d+))?\b")
# "disa/model/disa.py", but not the end of a longer path or of a string that is put together
FILE = re.compile(r"""(?<![\w./"-])((?:disa|docs|tests|benchmarks|experiments)/[\w./-]+)""")
# "quirk 5", "quirks 1, 6-10 and 13"
QUIRKS = re.compile(r"quirks? (\d+(?:(?:, | and |-)\d+)*)")


def is_history(path: Path) -> bool:
    """Tell whether a page is of the log, which names what there was."""
    return path.parent.name == "log"


def cited(text: str) -> tuple[set[int], set[int]]:
    """Return the decisions and the quirks that a text names."""
    decisions = {int(number) for pair in DECISION.findall(text) for number in pair if number}
    quirks: set[int] = set()
    for listed in QUIRKS.findall(text):
        for part in re.split(r", | and ", listed):
            first, _, last = part.partition("-")
            quirks |= set(range(int(first), int(last or first) + 1))
    return decisions, quirks


def test_citations_are_found():
    text = "as decision D5 says, (D7), decisions D1 and D2; quirks 1, 6-8 and 13, quirk 20"
    assert cited(text) == ({1, 2, 5, 7}, {1, 6, 7, 8, 13, 20})


def test_every_decision_and_quirk_that_is_cited_exists():
    numbers = [number for page in DECISIONS.values() for number in page]
    facts = [int(number) for number in re.findall(r"^(\d+)\. \*\*", BASELINE, re.MULTILINE)]
    assert len(numbers) == len(set(numbers)) > 20
    assert facts == list(range(1, 29))
    for path in TEXTS:
        if is_history(path):
            continue
        decisions, quirks = cited(path.read_text(encoding="utf-8"))
        place = path.relative_to(ROOT)
        assert decisions <= set(numbers), f"{place}: decisions {decisions - set(numbers)}"
        assert quirks <= set(facts), f"{place}: quirks {quirks - set(facts)}"


def test_the_index_names_the_decisions_of_each_page():
    rows = re.findall(r"^\| \[.+\]\((.+)\) \| (.+) \|$", INDEX, re.MULTILINE)
    listed = {page: [int(number[1:]) for number in numbers.split(", ")] for page, numbers in rows}
    assert listed == {page: sorted(numbers) for page, numbers in DECISIONS.items()}


def test_no_page_is_longer_than_three_screens():
    for page in ROOT.glob("docs/**/*.md"):
        lines = len(page.read_text(encoding="utf-8").splitlines())
        assert lines <= 150, f"{page.relative_to(ROOT)} has {lines} lines; split it by subject"


def test_every_test_that_the_paper_page_names_exists():
    files = {
        path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py")
    }
    for row in (line for line in PAPER.splitlines() if line.startswith("| ")):
        file = ""
        for named in re.findall(r"`([^`]+)`", row.rsplit("|", 2)[-2]):
            file, _, function = (named if not named.startswith("::") else file + named).partition(
                "::"
            )
            if not file:  # the file stands in a row above
                assert any(f"def {function}(" in text for text in files.values()), named
                continue
            assert file in files, named
            assert not function or f"def {function}(" in files[file], named


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_exists(path: Path):
    """Files that commands write are named by capitals (OUT/report.md) or without a folder."""
    text = path.read_text(encoding="utf-8")
    for name in FILE.findall(text):
        name = name.rstrip(".-/")
        if is_history(path) or name.endswith("/NAME"):
            continue
        assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_page_exists(page: Path):
    """In a code block the command line takes it as it stands, with its options and their values."""
    if is_history(page):
        return
    text = page.read_text(encoding="utf-8")
    for words in (words for block in blocks_of(text) for words in commands(block.text)):
        name = next(name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS)
        parse(name, words[len(name.split()) :])
    for word in re.findall(r"`disa ([a-z][a-z-]*)", text):
        assert any(command.split()[0] == word for command in COMMANDS), word
