"""`disa segment` as a user types it: what is written, and by which options."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from PIL import Image
from segmenting import LABELS, assert_same

import disa
from disa.data.vocabulary import load_vocabulary


@pytest.mark.slow
def test_a_folder_end_to_end_as_a_user_types_it(pictures: Path, tmp_path: Path, model_folder: Path):
    options = ["--labels", LABELS, "--out", "results", "--model", str(model_folder)]
    done = subprocess.run(
        [sys.executable, "-m", "disa", "segment", str(pictures), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    first, last = done.stdout.splitlines()
    assert first == f"model {model_folder}"
    assert last == "3 pictures segmented, in results"
    assert done.stderr == ""
    names = {
        f"p{number}{end}" for number in range(3) for end in ("_overlay.png", "_labels.png", ".json")
    }
    names.add("segment.yaml")
    assert {path.name for path in (tmp_path / "results").iterdir()} == names


def test_what_is_written_is_what_python_gives(
    pictures: Path, tmp_path: Path, segment, model_folder: Path
):
    out = tmp_path / "out"
    options = ["--saliency", "--scores", "--beside", "--background", "0.5"]
    result = segment(pictures / "p0.png", "--out", out, *options)
    assert result.exit_code == 0, result.stderr
    expected = disa.load(model_folder, "cpu")(
        pictures / "p0.png", LABELS, background=0.5, scores=True
    )
    assert_same(
        json.loads((out / "p0.json").read_text()), json.loads(json.dumps(expected.to_json()))
    )
    labels = np.asarray(Image.open(out / "p0_labels.png"))
    np.testing.assert_array_equal(labels, np.where(expected.labels < 0, 255, expected.labels))
    np.testing.assert_allclose(np.load(out / "p0_scores.npz")["scores"], expected.scores, atol=1e-3)
    assert Image.open(out / "p0_saliency.png").width > 100
    assert Image.open(out / "p0_overlay.png").width > 2 * 640
    entries = json.loads((out / "p0.json").read_text())["words"]
    assert [entry["word"] for entry in entries] == ["House", "sea|ocean", "grass"]


def test_templates_size_and_background_words_are_passed_on(
    pictures: Path, tmp_path: Path, segment, model_folder: Path
):
    options = ["--template", "my {}", "--template", "the {}", "--size", "64"]
    options += ["--background", "wall, floor"]
    assert segment(pictures / "p1.png", "--out", tmp_path / "o", *options).exit_code == 0
    segmenter = disa.load(model_folder, "cpu")
    expected = segmenter(
        pictures / "p1.png",
        LABELS,
        templates=["my {}", "the {}"],
        size=64,
        background="wall, floor",
    )
    assert_same(
        json.loads((tmp_path / "o/p1.json").read_text()), json.loads(json.dumps(expected.to_json()))
    )


def test_quotes_keep_commas_in_options_and_in_files_of_options(
    pictures: Path, tmp_path: Path, segment, model_folder: Path
):
    text = '"traffic light, red", sea'
    out = tmp_path / "out"
    options = ["--background", '"wall, white", floor']
    assert segment(pictures / "p0.png", "--out", out, *options, labels=text).exit_code == 0
    entries = json.loads((out / "p0.json").read_text())
    assert [entry["word"] for entry in entries["words"]] == ["traffic light, red", "sea"]
    assert entries["background"]["policy"] == ["wall, white", "floor"]

    config = tmp_path / "options.yaml"
    config.write_text(f"labels: '{text}'\nmodel: {model_folder}\n")
    again = tmp_path / "again"
    done = invoke("segment", pictures / "p0.png", "--out", again, "--config", config)
    assert done.exit_code == 0, done.stderr
    entries = json.loads((again / "p0.json").read_text())
    assert [entry["word"] for entry in entries["words"]] == ["traffic light, red", "sea"]


def test_label_maps_are_a_data_sets_masks(
    pictures: Path, tmp_path: Path, segment, model_folder: Path
):
    """Without a palette OpenCV reads the indices; classes.json says what they are."""
    shutil.copy(pictures / "p1.png", pictures / "classes.png")
    out = tmp_path / "out"
    options = ["--out", out, "--classes", "--background", "0.5", "--no-overlay"]
    assert segment(pictures, *options).exit_code == 0
    content = (out / "p0_labels.png").read_bytes()
    assert content[25] == 0  # a PNG's type of colour: grey
    expected = disa.load(model_folder, "cpu")(pictures / "p0.png", LABELS, background=0.5).labels
    found = np.asarray(Image.open(out / "p0_labels.png"))
    np.testing.assert_array_equal(found, np.where(expected < 0, 255, expected))

    names = load_vocabulary(out / "classes.json").prompts(synonyms=True)
    assert names == ("House", "sea|ocean", "grass")
    assert json.loads((out / "classes-2.json").read_text())["image"].endswith("classes.png")
    again = segment(pictures / "p0.png", *options, labels="zebra, sky")
    assert "classes.json" in again.stderr
    assert load_vocabulary(out / "classes.json").prompts() == ("zebra", "sky")


def test_a_flag_may_say_what_is_the_default(pictures: Path, tmp_path: Path, segment):
    config = tmp_path / "options.yaml"
    config.write_text("grey: false\noverlay: false\n")
    for out, options, mode in [
        ("plain", ["--grey", "--no-saliency", "--no-overlay"], "L"),
        ("file", ["--config", config], "P"),
        ("typed", ["--config", config, "--grey"], "L"),
    ]:
        done = segment(pictures / "p0.png", "--out", tmp_path / out, *options)
        assert done.exit_code == 0, done.stderr
        with Image.open(tmp_path / out / "p0_labels.png") as found:
            assert found.mode == mode
        assert not (tmp_path / out / "p0_overlay.png").exists()


def test_the_names_of_the_indices_replace_no_result(pictures: Path, tmp_path: Path, segment):
    shutil.copy(pictures / "p1.png", pictures / "classes.png")
    out = tmp_path / "out"
    assert segment(pictures / "classes.png", "--out", out).exit_code == 0
    before = (out / "classes.json").read_bytes()
    segment(pictures / "p0.png", "--out", out, "--classes").fails("classes.json", "--classes")
    assert (out / "classes.json").read_bytes() == before


def test_protocols_from_the_command_line(pictures: Path, tmp_path: Path, segment):
    done = segment(
        pictures / "p0.png", "--out", tmp_path / "out", "--protocol", "windows", "--overlap", "0.5"
    )
    assert done.exit_code == 0, done.output
    assert Image.open(tmp_path / "out" / "p0_labels.png").size == (40, 30)
    out = ["--out", tmp_path / "none"]
    segment(pictures, *out, "--protocol", "tiles").fails("use whole, windows, cat-seg")
    segment(pictures, *out, "--protocol", "windows", "--overlap", "1").fails("overlap 1:")
    segment(pictures, *out, "--protocol", "cat-seg", "--size", "640").fails("size 640")


def test_a_vocabulary_in_place_of_labels(pictures: Path, tmp_path: Path, model_folder: Path):
    classes = tmp_path / "classes.txt"
    classes.write_text("boat|vessel|sea\nsea\nship\nSea\n")
    model = ["--model", model_folder, "--device", "cpu"]
    expected = {(): ["boat", "sea", "ship"], ("--synonyms",): ["boat|vessel", "sea", "ship"]}
    for options, words in expected.items():
        out = tmp_path / f"out{len(options)}"
        options = ["--out", out, "--vocabulary", classes, *options]
        result = invoke("segment", pictures / "p0.png", *model, *options)
        assert result.exit_code == 0, result.stderr
        entries = json.loads((out / "p0.json").read_text())["words"]
        assert [entry["word"] for entry in entries] == words


@pytest.mark.parametrize("name", ["pas20b", "a847"])
def test_a_published_vocabulary_by_name(
    pictures: Path, tmp_path: Path, model_folder: Path, name: str
):
    model = ["--model", model_folder, "--device", "cpu"]
    options = ["--out", tmp_path / "out", "--vocabulary", name, "--synonyms"]
    result = invoke("segment", pictures / "p0.png", *model, *options)
    assert result.exit_code == 0, result.stderr
    entries = json.loads((tmp_path / "out" / "p0.json").read_text())["words"]
    assert [entry["word"] for entry in entries] == list(load_vocabulary(name).labels(synonyms=True))
