"""The guides to extensions hold: their blocks make a copy of the code that passes their tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks, patched

GUIDES = ("docs/extending.md", "docs/extending_network.md")


def test_a_diff_changes_its_place_alone():
    assert patched("a\nb\nc\n", " a\n+x\n@@\n-c\n+d\n") == "a\nx\nb\nd\n"
    with pytest.raises(AssertionError, match="2 times"):
        patched("a\na\n", " a\n+b\n")


@pytest.mark.slow
def test_the_guides(tmp_path: Path):
    for folder in ("disa", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "golden")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    tests = []
    for block in (block for guide in GUIDES for block in blocks(guide)):
        path = tmp_path / block.title
        if block.language == "diff":
            path.write_text(patched(path.read_text(encoding="utf-8"), block.text))
            continue
        assert not path.exists()
        path.write_text(block.text)
        if path.name.startswith("test_"):
            tests.append(block.title)
    assert len(tests) == 4

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
