"""`disa data` and `disa vocabulary` as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import miniatures
import numpy as np
import pytest
from command_line import Result, invoke
from PIL import Image

from disa.data.benchmarks import BENCHMARKS
from disa.data.vocabulary import VOCABULARIES, load_vocabulary


def disa(*arguments: object) -> Result:
    return invoke(list(map(str, arguments)))


def prints(line: str, *facts: object) -> bool:
    """Tell whether a line holds these facts."""
    return all(str(fact) in line for fact in facts)


def lines_with(result: Result, start: str) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith(start)]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_from_archives_to_label_maps(tmp_path: Path, name: str):
    expected = miniatures.build(name, tmp_path / "archives")
    arguments = [name, tmp_path / "archives"]
    made = disa("data", "prepare", *arguments, "--workers", 1)
    assert (made.exit_code, made.stderr) == (0, "")
    if BENCHMARKS[name].is_prepared:
        count = len(expected)
        place = tmp_path / "archives" / "disa-prepared" / name / "val"
        assert prints(made.stdout, f"{count} images", f"{count} of them now", place)
    else:
        assert prints(made.stdout, "nothing", name, "3 images")
    result = disa("data", "labels", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{image}.png" for image in expected
    }
    for image, labels in expected.items():
        with Image.open(tmp_path / "out" / f"{image}.png") as written:
            assert written.mode == ("I;16" if name in ("a847", "pc459") else "L")
            np.testing.assert_array_equal(np.asarray(written), labels)


def test_labels_of_the_first_images(tmp_path: Path):
    miniatures.build("coco-stuff", tmp_path, "train")
    options = ["--split", "train", "-o", tmp_path / "out", "--limit", 2]
    result = disa("data", "labels", "coco-stuff", tmp_path, *options)
    assert prints(result.stdout, "2 label maps", tmp_path / "out", 255)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "000000000000.png",
        "000000000139.png",
    ]


def test_label_maps_never_replace_the_data_sets_own_files(tmp_path: Path):
    miniatures.build("a150", tmp_path)
    masks = tmp_path / "ADEChallengeData2016" / "annotations" / "validation"
    before = {path.name: path.read_bytes() for path in masks.iterdir()}
    disa("data", "labels", "a150", tmp_path, "--out", masks).fails(masks)
    assert {path.name: path.read_bytes() for path in masks.iterdir()} == before


def test_check_prints_the_histogram_and_what_is_wrong(tmp_path: Path):
    miniatures.build("pas20", tmp_path)
    result = disa("data", "check", "pas20", tmp_path, "--workers", 1)
    result.fails(tmp_path, "2 problems", "pas20")
    lines = result.stdout.splitlines()
    # 7 of 140 - 13 and 40 labelled pixels
    assert lines[1].split() == ["0", "aeroplane", "1", f"{7 / 167:.3%}"]
    assert any(prints(line, "pas20", "val", "3 images", "1,449") for line in lines)
    assert any(prints(line, "1 without", "2007_000042") for line in lines)
    problems = [line for line in lines if line.startswith("problem: ")]
    assert prints(problems[0], tmp_path, "3 images", "1,449")
    assert prints(problems[1], "2011_003276.png", "21 (40 pixels)")


def test_check_says_whether_a_data_set_is_prepared(tmp_path: Path):
    miniatures.build("pc59", tmp_path)
    arguments = ["data", "check", "pc59", tmp_path, "--workers", 1]
    assert f"disa data prepare pc59 {tmp_path}" in disa(*arguments).stdout
    assert disa("data", "prepare", "pc59", tmp_path, "--workers", 1).exit_code == 0
    place = tmp_path / "disa-prepared" / "pc59" / "val"
    assert prints(disa(*arguments).stdout, "4 images", place)


def test_check_of_a_folder_that_is_right(tmp_path: Path):
    for number in range(3):
        miniatures.photograph(tmp_path / "images" / f"p{number}.jpg", 4, 5, number)
        mask = np.array([[0, 1, 1, 1, 255]] * 4, np.uint8)
        miniatures.save_png(tmp_path / "masks" / f"p{number}.png", mask)
    (tmp_path / "classes.txt").write_text("sky\nsea\nland")
    result = disa("data", "check", "folder", tmp_path, "--workers", 1)
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1:4] == [
        ["0", "sky", "3", "25.000%"],
        ["1", "sea", "3", "75.000%"],
        ["2", "land", "0", "0.000%"],
    ]
    assert prints(result.stdout.splitlines()[4], "2 of 3", "20.00%", "60 pixels")
    assert "3 images" in result.stdout
    assert prints(lines_with(result, "note: ")[0], "1 of 3", '"land"', "255")


def own_folder(root: Path, masks: list[list[int]], classes: str = "sand\nboat") -> Path:
    """A folder of pictures of one row, with these masks."""
    for number, row in enumerate(masks):
        miniatures.photograph(root / "images" / f"p{number}.jpg", 1, len(row), number)
        mask = np.array([row], np.uint8 if max(row) < 256 else np.uint16)
        miniatures.save_png(root / "masks" / f"p{number}.png", mask)
    name = "classes.json" if classes.startswith("{") else "classes.txt"
    (root / name).write_text(classes)
    return root


IDS = '{"categories": [{"name": "sand", "id": 0}, {"name": "boat", "id": 255}]}'
MEANT = '{"categories": ["sand", "boat"], "ignored": [255]}'


@pytest.mark.parametrize(
    ("masks", "classes", "facts"),
    [
        ([[0, 255, 0]], "sand\nboat", ['"boat"', "255", '"ignored"']),
        ([[0, 65535], [0, 0]], "sand\nboat\nsky", ['"boat"', '"sky"', "255"]),
        ([[0, 255], [0, 0]], "boat", ['"boat"', "255"]),
        ([[255, 255], [255, 255]], "sand\nboat", ["ignored"]),
        ([[0, 1], [0, 2]], "sand\nboat", ["p1.png", "holds 2", "count from 1"]),
        ([[0, 2]], "sand\nboat\nsky", None),
    ],
)  # fmt: skip
def test_check_finds_what_masks_must_not_be(
    tmp_path: Path, masks: list, classes: str, facts: list | None
):
    root = own_folder(tmp_path / "own", masks, classes)
    result = disa("data", "check", "folder", root, "--workers", 1)
    problems = lines_with(result, "problem: ")
    if facts is None:
        assert result.exit_code == 0 and not problems
        return
    assert result.exit_code == 2
    assert len(problems) == 1 and prints(problems[0], root, *facts)


@pytest.mark.parametrize(
    ("masks", "classes", "facts"),
    [
        ([[0, 1]], "sand\nboat", None),
        ([[0, 255]], IDS, None),
        ([[0, 255]], MEANT, ["1 of 2", '"boat"']),
        ([[1, 2], [2, 2]], "sand\nboat\nsky", ['"sand"', "count from 1"]),
        ([[0, 0, 1]], "crack\nBackground", ['"crack"', '"Background"', "exchange"]),
        ([[0, 1, 1]], "crack\nBackground", None),
        ([[0, 0]], "sand", ['"sand"', "nothing to tell it from"]),
    ],
)  # fmt: skip
def test_check_notes_what_may_be_meant(
    tmp_path: Path, masks: list, classes: str, facts: list | None
):
    root = own_folder(tmp_path / "own", masks, classes)
    result = disa("data", "check", "folder", root, "--workers", 1)
    assert result.exit_code == 0
    notes = lines_with(result, "note: ")
    assert ("nothing is wrong" in result.stdout) == (not notes)
    assert bool(notes) == bool(facts)
    if facts:
        assert prints(" ".join(notes), *facts)


def test_check_sees_that_red_and_blue_are_exchanged(tmp_path: Path):
    entries = [{"name": "sky", "color": [0, 128, 255]}, {"name": "sea", "color": [0, 0, 0]}]
    root = own_folder(tmp_path / "own", [[0, 0]], json.dumps({"categories": entries}))
    mask = np.array([[[255, 128, 0], [0, 0, 0]]], np.uint8)
    miniatures.save_png(root / "masks" / "p0.png", mask)
    result = disa("data", "check", "folder", root, "--workers", 1)
    assert prints(lines_with(result, "problem: ")[0], "(255, 128, 0)", "red and blue")


@pytest.mark.parametrize("command", ["check", "prepare"])
@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_missing_folder(tmp_path: Path, command: str, name: str):
    nowhere = tmp_path / "nowhere"
    disa("data", command, name, nowhere).fails(nowhere, "`disa data list ")


def test_other_mistakes(tmp_path: Path):
    disa("data", "check", "ade", tmp_path).fails('"ade"', *BENCHMARKS)
    disa("data", "list", "ade").fails('"ade"', *BENCHMARKS)
    disa("data", "prepare", "pc59", tmp_path, "--split", "train").fails("pc59", "train", "val")
    out = tmp_path / "out"
    disa("data", "labels", "pc59", tmp_path, "--out", out).fails("disa data prepare pc59")
    assert not out.exists()
    disa("data", "check", "folder", tmp_path).fails("classes.txt")


def test_prepare_says_what_could_not_be_prepared(tmp_path: Path):
    miniatures.build("pc459", tmp_path)
    (tmp_path / "VOCdevkit" / "VOC2010" / "trainval" / "2009_000001.mat").write_bytes(b"no")
    result = disa("data", "prepare", "pc459", tmp_path, "--workers", 1)
    assert result.exit_code == 2
    problem, error = result.stderr.splitlines()
    assert "2009_000001.mat" in problem
    assert "1 image could not be prepared" in error


def test_list_shows_every_data_set(tmp_path: Path):
    result = disa("data", "list")
    assert result.exit_code == 0
    for name, benchmark in BENCHMARKS.items():
        assert f"{name}: {benchmark.title}\n" in result.stdout
        assert f"val {benchmark.images['val']:,}" in result.stdout
    assert "DIR/\n    VOCdevkit/\n      VOC2010/\n" in disa("data", "list", "pc459").stdout


@pytest.mark.parametrize("name", VOCABULARIES)
def test_the_tree_that_list_shows_is_the_one_that_is_read(tmp_path: Path, name: str):
    """Every folder and file name in it exists in the miniature, or is optional."""
    miniatures.build(name, tmp_path)
    if name == "coco-stuff":
        miniatures.build(name, tmp_path, "train")
    places: list[str] = []
    for line in BENCHMARKS[name].tree.splitlines():
        depth, text = (len(line) - len(line.lstrip())) // 2, line.strip()
        entry = text.split()[0].rstrip(",").rstrip("/")
        places = [*places[:depth], entry]
        folder = tmp_path.joinpath(*places[:-1], *Path(entry).parts[:-1])
        if "SCENE" not in entry:
            assert folder.is_dir(), line
            assert list(folder.glob("*" + Path(entry).suffix)), line


def many_images(root: Path) -> Path:
    """Build a `pc459` of one image under 200 names, which takes a while to prepare.

    Return the folder of label maps.
    """
    from scipy.io import savemat

    miniatures.build("pc459", root)
    voc = root / "VOCdevkit" / "VOC2010"
    ids = [f"2009_{number:06d}" for number in range(200)]
    miniatures.photograph(voc / "JPEGImages" / f"{ids[0]}.jpg", 300, 400, 0)
    savemat(voc / "trainval" / f"{ids[0]}.mat", {"LabelMap": np.ones((300, 400), np.uint16)})
    for name in ids[1:]:
        for folder, suffix in (("JPEGImages", ".jpg"), ("trainval", ".mat")):
            (voc / folder / f"{name}{suffix}").unlink(missing_ok=True)
            (voc / folder / f"{name}{suffix}").hardlink_to(voc / folder / f"{ids[0]}{suffix}")
    (voc / "pascalcontext_val.txt").write_text("\n".join(ids))
    return root / "disa-prepared" / "pc459" / "val" / "labels"


def prepare_command(root: Path) -> list[str]:
    words = ["data", "prepare", "pc459", str(root), "--workers", "2"]
    return [sys.executable, "-m", "disa", *words]


def started(command: list[str], labels: Path) -> subprocess.Popen:
    """Start it in a process group of its own and wait for its first label map."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and not list(labels.glob("*.png")):
        time.sleep(0.01)
    return process


def times(labels: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in labels.glob("*.png")}


@pytest.mark.slow
def test_interrupted_and_run_again(tmp_path: Path):
    """Ctrl-C and the end of a terminal reach every process of the group.

    What is written stays, and the next run does the rest.
    """
    labels = many_images(tmp_path)
    command = prepare_command(tmp_path)
    process = started(command, labels)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: files already written are whole and kept\n"
    done = times(labels)
    assert 0 < len(done) < 200
    assert len(done) == len(list(labels.iterdir()))
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert prints(again.stdout, "200 images", f"{200 - len(done)} of them now")
    assert done.items() <= times(labels).items()


@pytest.mark.slow
def test_killed_it_leaves_no_process_behind(tmp_path: Path):
    """The pipes reach their end only when all processes that hold them have gone."""
    labels = many_images(tmp_path)
    command = prepare_command(tmp_path)
    process = started(command, labels)
    process.kill()
    out, err = process.communicate(timeout=120)
    assert (out, "Traceback" in err) == ("", False)
    assert 0 < len(times(labels)) < 200
    for path in labels.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_vocabulary_as_json_is_a_vocabulary_file(tmp_path: Path, name: str):
    result = disa("vocabulary", name, "--json")
    printed = json.loads(result.stdout)
    assert tuple(printed["prompts"]) == load_vocabulary(name).prompts()
    (tmp_path / "own.json").write_text(result.stdout)
    assert load_vocabulary(tmp_path / "own.json").categories == load_vocabulary(name).categories


def test_a_vocabulary_as_a_table(tmp_path: Path):
    lines = disa("vocabulary", "pas20b").stdout.splitlines()
    assert lines[0].split() == ["0", "aeroplane", "thing"]
    assert lines[20].split() == ["20", "bag", "counts", "as", "background"]
    assert lines[-1] == "59 prompts, 21 categories scored"
    assert "boat|ship" not in disa("vocabulary", "a847").stdout
    lines = disa("vocabulary", "a847", "--synonyms").stdout.splitlines()
    assert lines[1].split() == ["1", "building|edifice", "stuff"]
    assert "identical" not in lines[-1]
    lines = disa("vocabulary", "a847").stdout.splitlines()
    identical = [line for line in lines if "identical" in line]
    assert len(identical) == 9
    assert any(prints(line, '"bag"', "114, 191, 252") for line in identical)
    (tmp_path / "classes.txt").write_text("boat|ship\nsea")
    lines = disa("vocabulary", tmp_path / "classes.txt").stdout.splitlines()
    assert lines[0].split() == ["0", "boat"]
    disa("vocabulary", "nothing").fails('"nothing"', *VOCABULARIES)


@pytest.mark.slow
def test_data_sets_need_neither_torch_nor_scipy(tmp_path: Path):
    """Opening, listing and checking answer at once; only LabelMaps need scipy."""
    miniatures.build("pc59", tmp_path)
    program = (
        "import sys; from disa.interfaces.cli import main; main(['data', 'list']); "
        "assert main(['data', 'prepare', 'pc59', sys.argv[1], '--workers', '1']) == 0; "
        "assert not {'torch', 'scipy', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True)


def test_without_scipy_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    miniatures.build("pc459", tmp_path)
    monkeypatch.setitem(sys.modules, "scipy", None)
    disa("data", "prepare", "pc459", tmp_path).fails("scipy", "disa-seg[data]")
