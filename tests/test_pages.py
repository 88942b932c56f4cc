"""Pages that a newcomer follows: their commands and their Python run as they stand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from pages import blocks, commands
from pycocotools.coco import COCO

from disa.data.masks import read_indices
from disa.inference.segmentation import Segmentation
from disa.picturebook import NOUNS, TEST_SEED, render
from disa.weights.names import PUBLISHED

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_commands(page: str) -> None:
    """Run what a page does with `disa`, but for models that would have to be fetched."""
    for block in blocks(page):
        for words in commands(block.text):
            if not PUBLISHED.keys() & set(words):
                done = invoke(words)
                assert done.exit_code == 0, done.output


def run_python(page: str) -> dict[str, Any]:
    """Run the Python of a page, one block after the other; a title sets a block apart."""
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python" and not block.title:
            exec(compile(block.text, page, "exec"), names)
    return names


def check_third_scene(result: Segmentation) -> None:
    """The labels are those that were drawn, at nine tenths of the pixels and more."""
    drawn = render(TEST_SEED, 2, 384).labels
    named = [NOUNS.index(word.partition("|")[0]) for word in result.words]
    assert (np.array(named)[result.labels] == drawn).mean() > 0.9


def test_the_readme():
    assert invoke("picturebook", "demo-out/scenes", "--count", 6, "--size", 384).exit_code == 0
    names = run_python("README.md")
    check_third_scene(names["result"])
    assert Path("out/scene-0002_overlay.png").is_file()
    assert names["second"].words == ("fish", "sea|ocean", "sand")


def test_the_start_page():
    run_commands("docs/index.md")
    names = run_python("docs/index.md")
    check_third_scene(names["result"])
    facts = json.loads(Path("results/scene-0002.json").read_text())
    assert {each["word"]: each["area"] for each in facts["words"]} == names["result"].areas


def test_other_tools():
    run_commands("docs/other_tools.md")
    counts = run_python("docs/other_tools.md")["counts"]
    scenes = [render(TEST_SEED, index, 384) for index in range(6)]
    drawn = {noun for scene in scenes for noun in scene.nouns}
    assert {name.partition("|")[0] for name in counts} == drawn & {
        *("car", "snowman", "fish", "cactus", "umbrella", "flower", "mushroom")
    }
    assert len(list(Path().glob("annotated-*.png"))) == 6

    # FiftyOne looks for the pictures by their names below `data_path`, and reads masks in this way.
    found = COCO("results/coco/annotations.json")
    for image in found.loadImgs(found.getImgIds()):
        name = Path(image["file_name"])
        assert ("scenes" / name).is_file()
        labels = np.full((384, 384), 255)
        for annotation in found.loadAnns(found.getAnnIds(image["id"])):
            labels[found.annToMask(annotation) > 0] = annotation["category_id"] - 1
        np.testing.assert_array_equal(labels, read_indices(Path(f"results/{name.stem}_labels.png")))
