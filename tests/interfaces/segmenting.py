"""What several tests of `disa segment` look at."""

from pathlib import Path

import pytest

LABELS = "House, sea|ocean, grass"


def assert_same(found: dict, expected: dict) -> None:
    """Equal but for last digits, which on some CPUs depend on how many labels go together."""
    words, others = ([dict(word) for word in data.pop("words")] for data in (found, expected))
    assert found == expected
    assert len(words) == len(others)
    for word, other in zip(words, others, strict=True):
        assert word.keys() == other.keys()
        for name, value in word.items():
            assert value == (
                pytest.approx(other[name], rel=1e-5) if isinstance(value, float) else other[name]
            )


def files_in(folder: Path) -> dict[str, bytes]:
    """Every result and its content, without the record of the options."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".yaml")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def many(pictures: Path, count: int) -> None:
    """Add copies of the pictures under other names."""
    for number in range(count):
        original = pictures / f"p{number % 3}.png"
        (pictures / f"q{number:02}.png").write_bytes(original.read_bytes())
