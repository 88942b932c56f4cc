import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Result, invoke
from matplotlib import cbook
from PIL import Image
from sklearn.datasets import load_sample_image

import disa
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError
from disa.inference import folder, fonts, lettering
from disa.inference.segmenter import Segmenter
from disa.picturebook import TEST_SEED, render

LABELS = "House, sea|ocean, grass"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(30, 40), (40, 30), (60, 60)]):
        image = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(image).save(folder / f"p{number}.png")
    return folder


@pytest.fixture
def segment(model_folder: Path):
    def run(*arguments: object, labels: str = LABELS, model: Path = model_folder) -> Result:
        options = ["--labels", labels, "--model", str(model), "--device", "cpu"]
        return invoke(["segment", *map(str, arguments), *options])

    return run


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


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    path = tmp_path / "drawing.png"
    Image.fromarray(render(TEST_SEED, 0).image).save(path)
    return path


def test_the_names_of_the_indices_replace_no_result(pictures: Path, tmp_path: Path, segment):
    shutil.copy(pictures / "p1.png", pictures / "classes.png")
    out = tmp_path / "out"
    assert segment(pictures / "classes.png", "--out", out).exit_code == 0
    before = (out / "classes.json").read_bytes()
    segment(pictures / "p0.png", "--out", out, "--classes").fails("classes.json", "--classes")
    assert (out / "classes.json").read_bytes() == before


def test_the_bundled_model_says_what_it_knows_and_what_it_never_read(drawing: Path, tmp_path: Path):
    picture = drawing
    labels = "cow|bull, red house, Ship, grass, sky scraper, photograph"
    result = invoke("segment", picture, "-l", labels, "--out", tmp_path / "out")
    assert result.exit_code == 0
    first = result.stdout.splitlines()[0]
    assert "mini" in first
    assert "not photographs" in first
    (note,) = result.stderr.splitlines()
    for strange in ("cow|bull", "photograph", "--model cat-seg-b"):
        assert strange in note
    for known in ("house", "Ship", "grass"):
        assert known not in note

    words = ["-l", "cottage, sea", "--out", tmp_path / "out"]
    assert invoke("segment", picture, *words).stderr == ""
    assert "zebra" in invoke("segment", picture, *words, "--background", "zebra").stderr


def test_the_bundled_model_warns_of_photographs(drawing: Path, tmp_path: Path, segment):
    """Photographs that test packages bring with them; one alone may pass (decision D126)."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in ("china.jpg", "flower.jpg"):
        Image.fromarray(load_sample_image(name)).save(photographs / name)
    shutil.copy(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), photographs)
    words = ["-l", "grass, sky", "--out", tmp_path / "out", "--no-overlay"]
    warned = invoke("segment", photographs, *words)
    assert warned.exit_code == 0
    assert "of 3 pictures" in warned.stderr
    assert "--model cat-seg-b" in warned.stderr
    assert segment(photographs, "--out", tmp_path / "out").stderr == ""  # another model

    # Unreadable ones count for nothing, and the drawing beside them is familiar.
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert "drawings" not in invoke("segment", drawing, tmp_path / "bad.png", *words).stderr


def test_labels_that_are_not_what_they_look_like_are_named(pictures: Path, tmp_path: Path, segment):
    odd = segment(pictures / "p0.png", "--out", tmp_path / "out", labels="se\u00ada, house")
    assert odd.exit_code == 0
    assert "U+00AD SOFT HYPHEN" in odd.stderr


def test_a_single_label_gets_a_hint_at_the_background(pictures: Path, tmp_path: Path, segment):
    out = tmp_path / "out"
    result = segment(pictures / "p0.png", "--out", out, labels="house")
    assert result.exit_code == 0
    assert "--background" in result.stderr
    result = segment(pictures / "p0.png", "--out", out, "--background", "0.3", labels="house")
    assert result.stderr == ""


def test_characters_that_no_font_draws_are_named(
    pictures: Path, tmp_path: Path, segment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")  # without fontconfig
    monkeypatch.setattr(fonts, "_places", {})
    fonts.fonts_for.cache_clear()
    options = [pictures / "p0.png", "--out", tmp_path / "out"]
    try:
        result = segment(*options, labels="\u732b, house")
        assert result.exit_code == 0
        assert "\u732b" in result.stderr
        assert "font" in result.stderr
        assert segment(*options, "--no-overlay", labels="\u732b, house").stderr == ""
        assert segment(*options, labels="cat, house").stderr == ""
        monkeypatch.setattr(lettering.features, "check", lambda name: False)
        assert "raqm" in segment(*options, labels="\u0642\u0637\u0629, house").stderr
    finally:
        fonts.fonts_for.cache_clear()
        lettering.runs.cache_clear()


def test_one_bad_picture_is_reported_and_the_others_are_done(
    pictures: Path, tmp_path: Path, segment
):
    (pictures / "p0a.png").write_bytes(b"no picture")
    (pictures / "p0b.jpg").touch()
    result = segment(pictures, pictures / "missing.png", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "3 of 6 pictures segmented" in result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    for error, name in zip(errors, ("p0a.png", "p0b.jpg", "missing.png"), strict=True):
        assert name in error
    assert len(list((tmp_path / "out").glob("*.json"))) == 3


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), DisaError("too wide")]
)
def test_a_picture_that_cannot_be_segmented_is_reported_and_the_others_are_done(
    error: Exception, pictures: Path, tmp_path: Path, segment, monkeypatch: pytest.MonkeyPatch
):
    whole = Segmenter.__call__

    def sometimes(self: Segmenter, image, *arguments, **options):
        pictures = image if isinstance(image, list) else [image]
        if any(picture.shape[:2] == (60, 60) for picture in pictures):
            raise error
        return whole(self, image, *arguments, **options)

    monkeypatch.setattr(Segmenter, "__call__", sometimes)
    result = segment(pictures, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "2 of 3 pictures segmented" in result.stdout
    assert result.stderr.startswith(f"error: {pictures / 'p2.png'}: ")
    assert {path.stem for path in (tmp_path / "out").glob("*.json")} == {"p0", "p1"}
    segment(pictures / "p2.png", "--out", tmp_path / "out").fails("p2.png: ")


def test_only_bad_pictures_exit_with_2(pictures: Path, tmp_path: Path, segment):
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("a.png", "b.png"):
        (bad / name).write_bytes(b"no picture")
    result = segment(bad, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "0 of 2 pictures" in result.stdout


def test_files_that_share_a_name_do_not_overwrite_each_other(
    pictures: Path, tmp_path: Path, segment
):
    for name in ("deep/p0.png", "p0.jpg", "p0-2.png"):
        (pictures / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20)).save(pictures / name)
    assert segment(str(pictures / "**/p0*"), "--out", tmp_path / "out").exit_code == 0
    sources = {json.loads(path.read_text())["image"] for path in (tmp_path / "out").glob("*.json")}
    assert len(sources) == 4


def test_another_run_does_not_overwrite_results_of_another_picture(
    pictures: Path, tmp_path: Path, segment
):
    out = tmp_path / "out"
    other = tmp_path / "other" / "p0.png"
    other.parent.mkdir()
    shutil.copy(pictures / "p1.png", other)
    assert segment(pictures / "p0.png", "--out", out).exit_code == 0
    first = files_in(out)
    result = segment(other, "--out", out, "--skip-existing")
    assert result.exit_code == 0
    assert "p0-2" in result.stderr
    both = files_in(out)
    assert {name: both[name] for name in first} == first
    assert json.loads(both["p0-2.json"])["image"] == str(other)

    # Again, both find their own.
    for picture in (other, pictures / "p0.png"):
        assert segment(picture, "--out", out).exit_code == 0
    assert files_in(out).keys() == both.keys()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_file_name_that_is_no_utf8_is_kept(pictures: Path, tmp_path: Path, segment):
    name = pictures / os.fsdecode(b"M\xfcnchen.png")
    (pictures / "p0.png").rename(name)
    assert segment(name, "--out", tmp_path / "out").exit_code == 0
    (written,) = (tmp_path / "out").glob("*.json")
    assert json.loads(written.read_text(encoding="utf-8"))["image"] == str(name)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count characters")
def test_results_of_files_with_the_longest_names(pictures: Path, tmp_path: Path, segment):
    for end in ("a", "b"):
        shutil.copy(pictures / "p0.png", pictures / f"{'語' * 80}{end}.png")
    assert segment(pictures, "--out", tmp_path / "out").exit_code == 0
    assert len(list((tmp_path / "out").glob("*.json"))) == 5


def bad_file(folder: Path, content: bytes) -> Path:
    path = folder / "x.png"
    path.write_bytes(content)
    return path


def test_bad_pictures_are_refused(pictures: Path, tmp_path: Path, segment):
    whole = (pictures / "p2.png").read_bytes()
    out = ["--out", tmp_path / "out"]
    segment(tmp_path / "none.png", *out).fails("none.png", "no such file")
    (tmp_path / "loop.png").symlink_to("loop.png")
    segment(tmp_path / "loop.png", *out).fails("loop.png", "no such file")
    segment("x" * 5000, *out).fails("no such file")
    segment(bad_file(tmp_path, b""), *out).fails("x.png", "0 bytes")
    segment(bad_file(tmp_path, b"words"), *out).fails("x.png", "not an image")
    segment(bad_file(tmp_path, whole[: len(whole) // 2]), *out).fails("x.png", "truncated")
    segment(pictures / "p2.png", "--max-pixels", 3599, *out).fails("60 x 60", "--max-pixels")
    assert segment(pictures / "p2.png", "--max-pixels", 3600, *out).exit_code == 0
    segment(str(tmp_path / "*.webp"), *out).fails("*.webp", "matches no file")
    (tmp_path / "empty").mkdir()
    segment(tmp_path / "empty", *out).fails("no picture in this folder")


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        ("", "no label"),
        ("a,,b", "empty"),
        ("sea, Sea", "twice"),
        ("house " * 60, "too long"),
        ("boat|boat", "twice"),
    ],
)
def test_bad_labels_are_refused(pictures: Path, tmp_path: Path, segment, labels: str, part: str):
    segment(pictures, "--out", tmp_path / "out", labels=labels).fails(part)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--background", "1.5"], "between 0 and 1"),
        (["--background", "Sea|wall,ocean"], "twice"),
        (["--template", "a house"], "must contain {}"),
        (["--size", "3"], "at least 8"),
        (["--device", "cuda:77"], "not available"),
    ],
)
def test_bad_options_are_refused(
    pictures: Path, tmp_path: Path, model_folder: Path, options: list[str], part: str
):
    command = ["--labels", LABELS, "--out", tmp_path / "out", "--model", model_folder]
    invoke("segment", pictures, *command, *options).fails(part)


def test_places_that_cannot_be_written_are_refused(pictures: Path, tmp_path: Path, segment):
    (tmp_path / "file").touch()
    segment(pictures, "--out", tmp_path / "file").fails("choose another")
    segment(pictures, "--out", tmp_path / "file/below").fails("choose another")
    segment(pictures, "--out", "/proc/results").fails("choose another")
    segment(pictures, "--out", pictures).fails("holds the pictures")


def test_bad_models_are_refused(
    pictures: Path,
    tmp_path: Path,
    segment,
    model_folder: Path,
    baseline_folder: Path,
    paper_folder: Path,
):
    out = ["--out", tmp_path / "out"]
    segment(pictures, *out, model=tmp_path / "none").fails("unknown model")
    segment(pictures, *out, model=pictures).fails("lacks model.safetensors")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (damaged / name).write_bytes((model_folder / name).read_bytes())
    (damaged / "model.safetensors").write_bytes(
        (model_folder / "model.safetensors").read_bytes()[:5000]
    )
    segment(pictures, *out, model=damaged).fails("model.safetensors", "damaged")
    (damaged / "model.safetensors").write_bytes(
        (baseline_folder / "model.safetensors").read_bytes()
    )
    segment(pictures, *out, model=damaged).fails("another model")
    segment(pictures, *out, "--saliency", model=baseline_folder).fails("SDM")
    segment(pictures, *out, "--background", "foreground", model=paper_folder).fails("stuff")


@pytest.mark.slow
def test_ctrl_c_leaves_only_whole_files(tmp_path: Path, model_folder: Path):
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    for number in range(400):
        image.save(folder / f"{number:03}.png", compress_level=1)
    options = ["--labels", LABELS, "--out", str(out), "--model", str(model_folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "disa", "segment", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    limit = time.monotonic() + 120
    while len(list(out.glob("*.json"))) < 2 and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert stdout == f"model {model_folder}\n"
    assert stderr == "interrupted: files already written are whole and kept\n"
    written = sorted(path for path in out.iterdir() if path.name != "segment.yaml")
    assert 6 <= len(written) < 1200
    for path in written:
        if path.suffix == ".json":
            assert json.loads(path.read_text())["width"] == 300
        else:
            assert path.suffix == ".png"
            Image.open(path).load()


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


def test_labels_or_a_vocabulary_but_not_both(pictures: Path, tmp_path: Path):
    arguments = ["segment", str(pictures), "--out", str(tmp_path / "out")]
    for options, part in (
        ([], 'give either --labels "house, sea" or --vocabulary a150'),
        (["--labels", "sea", "--vocabulary", "a150"], "give either"),
        (["--labels", "sea", "--synonyms"], "--synonyms belongs to --vocabulary"),
        (["--vocabulary", "ade"], 'unknown vocabulary "ade"'),
        (["--vocabulary", str(tmp_path / "missing.txt")], "missing.txt: no such file"),
    ):
        invoke([*arguments, *options]).fails(part)
    assert not (tmp_path / "out").exists()


def files_in(folder: Path) -> dict[str, bytes]:
    """Every result and its content, without the record of the options."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".yaml")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def many(pictures: Path, count: int) -> None:
    """Add copies of the pictures under other names."""
    for number in range(count):
        original = pictures / f"p{number % 3}.png"
        (pictures / f"q{number:02}.png").write_bytes(original.read_bytes())


def test_processes_that_draw_change_no_file(pictures: Path, tmp_path: Path, segment):
    many(pictures, 17)
    (pictures / "q03.png").write_bytes(b"no picture")
    for workers in (0, 2):
        out = tmp_path / f"out{workers}"
        result = segment(pictures, "--out", out, "--workers", workers, "--saliency")
        assert result.exit_code == 1
        assert "19 of 20 pictures segmented" in result.stdout
    assert len(files_in(tmp_path / "out0")) == 19 * 4
    assert files_in(tmp_path / "out0") == files_in(tmp_path / "out2")


def test_large_pictures_are_read_and_held_a_few_at_a_time(
    pictures: Path, tmp_path: Path, segment, monkeypatch: pytest.MonkeyPatch
):
    many(pictures, 9)
    assert segment(pictures, "--out", tmp_path / "usual", "--workers", "0").exit_code == 0
    together: list[int] = []
    whole = folder._segmented
    monkeypatch.setattr(folder, "TOGETHER", 3000)  # pixels; the pictures have 1,200 to 3,600
    monkeypatch.setattr(folder, "WAITING", 3000)
    monkeypatch.setattr(
        folder,
        "_segmented",
        lambda segmenter, group, queries: (
            together.append(sum(read.picture.pixels[..., 0].size for read in group))
            or whole(segmenter, group, queries)
        ),
    )
    assert segment(pictures, "--out", tmp_path / "few", "--workers", "2").exit_code == 0
    assert max(together) < 3000 + 3600
    assert len(together) > 3
    assert files_in(tmp_path / "few").keys() == files_in(tmp_path / "usual").keys()


def test_a_full_disk_ends_the_run_in_one_line(pictures: Path, tmp_path: Path, segment):
    many(pictures, 9)
    out = tmp_path / "out"
    (out / "q05.json").mkdir(parents=True)
    segment(pictures, "--out", out, "--workers", 2).fails("q05.json")


def test_several_sets_of_labels_in_one_run(pictures: Path, tmp_path: Path, segment):
    more = ["--labels", "zebra, sky", "--workers", "0"]
    result = segment(pictures, *more, "--out", tmp_path / "both")
    assert result.exit_code == 0
    assert "3 pictures segmented" in result.stdout
    for number, labels in enumerate(("zebra, sky", LABELS), 1):
        alone = tmp_path / f"alone{number}"
        assert segment(pictures, "--out", alone, labels=labels).exit_code == 0
        folder = tmp_path / "both" / f"labels-{number}"
        assert files_in(folder).keys() == files_in(alone).keys()
        for file in alone.glob("*.json"):
            if file.name != "segment.yaml":
                assert_same(
                    json.loads((folder / file.name).read_text()), json.loads(file.read_text())
                )


def test_existing_results_are_left_and_overlays_are_left_out(
    pictures: Path, tmp_path: Path, segment
):
    out = tmp_path / "out"
    assert segment(pictures / "p1.png", "--out", out).exit_code == 0
    before = files_in(out)
    result = segment(pictures, "--out", out, "--skip-existing", "--no-overlay")
    assert result.stdout.endswith(f"\n2 pictures segmented, in {out}; 1 were there\n")
    after = files_in(out)
    assert {name: after[name] for name in before} == before
    new = {f"p{number}{end}" for number in (0, 2) for end in ("_labels.png", ".json")}
    assert after.keys() - before.keys() == new
    result = segment(pictures, "--out", out, "--skip-existing")
    assert result.exit_code == 0
    assert files_in(out) == after


@pytest.mark.slow
def test_two_processes_share_the_pictures(pictures: Path, tmp_path: Path, segment, model_folder):
    launch = "-m torch.distributed.run --standalone --nproc-per-node 2 -m disa segment"
    options = ["--labels", LABELS, "--model", model_folder, "--device", "cpu", "--workers", "0"]
    command = [sys.executable, *launch.split(), pictures, *options, "--out", tmp_path / "two"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # One process speaks for both: the model, and what was done.
    model_line, last_line = done.stdout.splitlines()
    assert model_line.startswith("model ")
    assert last_line == f"3 pictures segmented, in {tmp_path / 'two'}"
    assert segment(pictures, "--out", tmp_path / "one", "--workers", "0").exit_code == 0
    assert files_in(tmp_path / "two").keys() == files_in(tmp_path / "one").keys()
