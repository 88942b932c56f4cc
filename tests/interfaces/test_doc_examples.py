"""The Python of these pages runs as it stands, in a folder with the files that it names."""

import re
from pathlib import Path
from typing import Any

import pytest
import siglip_formats
from PIL import Image

import disa
from disa.picturebook import TEST_SEED, render

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["encoders.md", "transformers.md"])
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(render(TEST_SEED, 3).image).save("boat.png")
    siglip_formats.write_siglip(Path("siglip2"))

    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)

    expected = disa.load("siglip2" if page == "encoders.md" else "mini", "cpu")
    words = ["boat", "sea", "sky"] if page == "encoders.md" else ["boat|ship", "sea", "sky"]
    result = expected("boat.png", words)
    found = names["result"].labels if page == "encoders.md" else names["labels"].numpy()
    assert (found == result.labels).all()
