"""What the documents and comments refer to exists: decisions by number, functions and tests by name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("disa", "tests", "benchmarks", "experiments", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
]
TEXTS = [path for path in SOURCES if path.suffix in (".py", ".md") and path != Path(__file__)]
DECISIONS = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
PAPER = (ROOT / "docs/paper.md").read_text(encoding="utf-8")


def test_a_decision_has_one_number_and_every_number_in_use_is_a_decision():
    numbers = re.findall(r"^- \*\*(D\d+)\b", DECISIONS, re.MULTILINE)
    assert len(numbers) == len(set(numbers)) > 20
    for path in TEXTS:
        for named in re.findall(r"[Dd]ecisions? (D[\w-]+)", path.read_text(encoding="utf-8")):
            assert named in numbers, f"{path.relative_to(ROOT)} names decision {named}"


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


@pytest.mark.parametrize("page", ["README.md", "docs/reading.md", "docs/training.md"])
def test_every_file_that_a_page_names_exists(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:disa|docs|tests|benchmarks|experiments)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), f"{page} names {name}"
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
