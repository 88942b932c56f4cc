"""`disa evaluate` from the command line on data sets on disk, with a small untrained model."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Result, invoke
from miniatures import build
from on_disk import WORDS, save_folder
from PIL import Image
from sklearn.metrics import jaccard_score

from disa.data.vocabulary import load_vocabulary
from disa.running.shown import as_markdown

CHANGING = ("command", "date", "commit")  # between two runs of the same thing


def words(name: str, data: Path, model: Path, out: Path) -> list[str]:
    """Return the arguments of `disa evaluate` that most tests give."""
    options = {"--data": data, "--model": model, "--out": out, "--device": "cpu"}
    return [name, *(str(word) for option in options.items() for word in option)]


def evaluate(*arguments: object) -> Result:
    return invoke("evaluate", *arguments)


def result(out: Path) -> dict[str, Any]:
    return {
        name: value
        for name, value in json.loads((out / "result.json").read_text()).items()
        if name not in CHANGING
    }


def test_own_folder_from_pictures_to_every_file(model_folder: Path, tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data")
    out = tmp_path / "out"
    maps = tmp_path / "maps"
    worst = tmp_path / "worst"
    json_file = tmp_path / "json" / "numbers.json"
    folders = ["--save-predictions", maps, "--save-worst", worst, "--json", json_file]
    said = evaluate(*words("folder", data, model_folder, out), *folders)
    assert said.exit_code == 0, said.output
    assert "mIoU over the 3 categories present" in said.output
    numbers = json.loads((out / "result.json").read_text())
    assert numbers == json.loads(json_file.read_text())

    names = [path.stem for path in sorted((data / "masks").iterdir())]
    true, found = (
        np.concatenate([np.asarray(Image.open(folder / f"{name}.png")).ravel() for name in names])
        for folder in (data / "masks", maps)
    )
    valid = true != 255
    ious = jaccard_score(true[valid], found[valid], labels=[0, 1, 2], average=None)
    assert [entry["iou"] for entry in numbers["per_category"]][:3] == pytest.approx(100 * ious)
    assert numbers["per_category"][3]["iou"] is None
    assert numbers["miou"] == pytest.approx(100 * ious.mean())
    assert numbers["miou_all"] == pytest.approx(100 * ious.sum() / len(WORDS))
    assert numbers["pixel_accuracy"] == pytest.approx(100 * (true == found)[valid].mean())

    origin = {"weights_sha256", "command", "versions", "commit", "date"}
    assert origin | {"mean_accuracy", "fwiou", "boundary_iou"} <= numbers.keys()
    assert numbers["protocol"] == "whole"
    assert numbers["prompts"]["templates"] == ["a picture of a {}"]
    assert len(list(worst.glob("*_truth.png"))) == len(list(worst.glob("*_prediction.png"))) == 4
    assert json.loads((maps / "predictions.json").read_text())["labels"] == list(WORDS)


def test_benchmark_beside_published_results(model_folder: Path, tmp_path: Path) -> None:
    build("a150", tmp_path)
    out = tmp_path / "out"
    said = evaluate(*words("a150", tmp_path, model_folder, out), "--limit", 1)
    assert said.exit_code == 0, said.output
    assert "1 of the 2000 images: not comparable" in " ".join(said.output.split())
    assert result(out)["protocol"] == "cat-seg"
    report = (out / "report.md").read_text()
    for line in (
        "| ESC-Net | 41.8 | as published, CVPR 2025, trained on COCO-Stuff |",
        "| CAT-Seg | 37.9 | as published, CVPR 2024, trained on COCO-Stuff |",
        "1 of the 2000 images: not comparable with published results.",
        "| 149 | flag | thing |",
    ):
        assert line in report


def test_pc459_is_given_on_both_scales(model_folder: Path, tmp_path: Path) -> None:
    build("pc459", tmp_path)
    assert invoke("data", "prepare", "pc459", tmp_path).exit_code == 0
    out = tmp_path / "out"
    options = ["--limit=1", "--protocol=whole"]
    said = evaluate(*words("pc459", tmp_path, model_folder, out), *options)
    assert said.exit_code == 0, said.output
    numbers, report = result(out), (out / "report.md").read_text()
    present = numbers["categories_present"]
    assert 0 < present < 459
    assert numbers["miou_all"] == pytest.approx(numbers["miou"] * present / 459)
    assert f"| mIoU over the {present} categories present |" in report
    assert "| mIoU over all 459 categories |" in report
    trained = "trained on COCO-Stuff; over"
    assert f"| SAN | 15.7 | as published, CVPR 2023, {trained} all categories |" in report
    assert f"| CAT-Seg | 23.8 | as published, CVPR 2024, {trained} the categories pre" in report
    assert "Published results of PC-459 are on two scales" in report


def test_pas20b_prompts_59_words_and_scores_21_categories(
    model_folder: Path, tmp_path: Path
) -> None:
    expected = build("pas20b", tmp_path)
    out, maps = tmp_path / "out", tmp_path / "maps"
    options = ["--save-predictions", maps, "--synonyms"]
    said = evaluate(*words("pas20b", tmp_path, model_folder, out), *options)
    assert said.exit_code == 0, said.output
    numbers = result(out)
    assert numbers["categories"] == len(numbers["per_category"]) == 21
    assert numbers["prompts"]["count"] == len(load_vocabulary("pas20b").prompted) == 59
    assert numbers["prompts"]["synonyms"] is True
    assert "All synonyms were prompted" in (out / "report.md").read_text()
    found = np.concatenate(
        [np.asarray(Image.open(maps / f"{name}.png")).ravel() for name in expected]
    )
    # 39 of the 59 words count as background, so an untrained model predicts it.
    assert found.max() == 20


@pytest.mark.slow
def test_two_processes_give_exactly_what_one_gives(model_folder: Path, tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data", images=5)
    one, two = tmp_path / "one", tmp_path / "two"
    assert evaluate(*words("folder", data, model_folder, one)).exit_code == 0
    from children import run_together  # Windows has no forks

    ended = run_together(["evaluate", *words("folder", data, model_folder, two)], two)
    assert [each.code for each in ended] == [0, 0], ended
    assert result(one) == result(two)
    assert ["report.md" in each.said for each in ended] == [True, False]


def test_nothing_is_written_among_the_data(model_folder: Path, tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    (tmp_path / "link").symlink_to(data / "masks")
    command = words("folder", data, model_folder, tmp_path / "out")
    for place in (data / "masks", data / "images" / "worst", tmp_path / "link"):
        for option in ("--save-worst", "--save-predictions", "--out"):
            evaluate(*command, option, place).fails(place)
    maps = tmp_path / "maps"
    maps.mkdir()
    for file in (data / "masks" / "photo-0.png", data / "classes.txt", data / "train.txt"):
        evaluate(*command, "--json", file).fails(file)
        invoke("score", maps, "folder", "--data", data, "--json", file).fails(file)
    train = ("train", "mini", "--init", model_folder, "--dataset")
    invoke(*train, "folder", "--data", data, "--out", data / "images").fails(data / "images")
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_run_is_not_written_among_the_pictures_it_is_measured_on(
    model_folder: Path, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        build("a150", tmp_path, split)
    for split in ("training", "validation"):
        out = tmp_path / "ADEChallengeData2016" / "images" / split
        data = ("--dataset", "a150", "--data", tmp_path)
        invoke("train", "mini", "--init", model_folder, *data, "--out", out).fails(out)


@pytest.mark.parametrize("given", [("--out", ""), ("--json=",), ("--save-worst", "")])
def test_an_empty_path_is_not_the_current_folder(
    given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate("picturebook", "--limit", 1, *given).exit_code == 2
    assert invoke("picturebook", "").exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_report_shows_names_as_they_are(model_folder: Path, tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data<b>")
    names = ["<img src=x onerror=alert(1)>", "[a](javascript:b)", "d e"]
    (data / "classes.txt").write_text("\n".join([*names, "d"]) + "\n")
    out = tmp_path / "out"
    assert evaluate(*words("folder", data, model_folder, out)).exit_code == 0
    report = (out / "report.md").read_text()
    # Indented lines are shown as they are.
    text = "\n".join(line for line in report.splitlines() if not line.startswith("    "))
    for shown in (r"data\<b\>", r"\<img src=x", r"\[a\](java"):
        assert shown in text
    assert not re.search(r"(?<!\\)[<\[]", text)


@pytest.mark.slow
def test_all_leaves_out_loudly_what_is_not_there_and_goes_on(
    model_folder: Path, tmp_path: Path
) -> None:
    build("pas20", tmp_path)
    build("a150", tmp_path)
    out = tmp_path / "out"
    command = [*words("all", tmp_path, model_folder, out), "--protocol", "whole"]
    said = evaluate(*command, "--save-worst", tmp_path / "worst")
    assert said.exit_code == 0, said.output
    for name in ("a847", "pc459", "pc59"):
        assert f"LEFT OUT {name}: " in said.output
    table = (out / "table.md").read_text()
    assert "| CAT-Seg (as published) | 16.0 | 23.8 | 37.9 | 63.3 | 97.0 | 82.5 |" in table
    assert "| DiSa (as published) | 16.3 | 24.9 | 38.9 | 64.7 | 98.7 | 84.7 |" in table
    assert "| ESC-Net (as published) | 18.1 | 27.0 | 41.8 | 65.6 | 98.3 | - |" in table
    numbers = json.loads((out / "result.json").read_text())
    assert set(numbers["benchmarks"]) == {"a150", "pas20", "pas20b"}
    assert set(numbers["left_out"]) == {"a847", "pc459", "pc59"}
    a150 = f"{numbers['benchmarks']['a150']['miou']:.2f}*"
    name = as_markdown(str(model_folder))
    a150 = as_markdown(a150)
    ours = f"{name} (measured here) | left out | left out | {a150} | left out |"
    assert ours in table
    assert {path.name for path in (tmp_path / "worst").iterdir()} == {"a150", "pas20", "pas20b"}
    again = evaluate(*command)
    assert again.exit_code == 0, again.output
    assert (out / "table.md").read_text() == table


def test_all_exits_with_1_where_a_benchmark_fails(model_folder: Path, tmp_path: Path) -> None:
    build("a150", tmp_path)
    build("pas20", tmp_path)
    broken = next((tmp_path / "ADEChallengeData2016" / "annotations" / "validation").iterdir())
    broken.write_bytes(b"no picture")
    command = words("all", tmp_path, model_folder, tmp_path / "out")
    said = evaluate(*command, "--protocol=whole")
    assert said.exit_code == 1, said.output
    assert "FAILED a150: " in said.output
    assert broken.name in said.output
    assert "left out" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cityscapes", 'unknown data set "cityscapes"'),
        ("a150", "a150 needs --data DIR"),
        ("all", "needs --data DIR"),
        ("a150 --data HERE/none", "none: no such folder"),
        ("a150 --data HERE", "ADEChallengeData2016"),
        ("all --data HERE", "holds none of a847, pc459, a150, pc59, pas20, pas20b"),
        ("folder --data HERE", "classes.txt: no such file"),
        ("folder --data HERE/data --protocol best", 'unknown protocol "best"'),
        ("folder --data HERE/data --protocol cat-seg --size 64", "size 64"),
        ("folder --data HERE/data --out HERE/file", "file: is a file, not a folder"),
        ("folder --data HERE/data --json HERE/file/x.json", "file: is a file, not a folder"),
        ("folder --data HERE/data --save-predictions HERE/data", "is not empty"),
        ("coco-stuff --data HERE/data --split test", 'coco-stuff has no split "test"'),
        ("folder --data HERE/data --size 3", "size 3 is smaller than one patch"),
        ("folder --data HERE/data --model no-such", 'unknown model "no-such"'),
        ("picturebook --data HERE", "leave out --data"),
    ],
)
def test_bad_input_is_one_line(model_folder: Path, tmp_path: Path, line: str, said: str) -> None:
    save_folder(tmp_path / "data")
    (tmp_path / "file").write_text("a file")
    given = line.replace("HERE", str(tmp_path)).split()
    if "--out" not in given and given[0] not in ("picturebook", "cityscapes"):
        given += ["--out", str(tmp_path / "out")]
    if "--model" not in given:
        given += ["--model", str(model_folder)]
    evaluate(*given).fails(said)


def test_a_folder_of_another_run_is_refused_in_one_line(model_folder: Path, tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data")
    command = words("folder", data, model_folder, tmp_path / "out")
    assert evaluate(*command).exit_code == 0
    assert evaluate(*command).exit_code == 0
    for change, said in (
        ("--synonyms", "synonyms False, not True"),
        ("--limit=2", "images 4, not 2"),
    ):
        evaluate(*command, change).fails(tmp_path / "out", said)


def test_data_sets_of_one_name_do_not_share_a_folder(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sites = [save_folder(tmp_path / site / "val", images=2) for site in ("siteA", "siteB")]
    for path in (sites[1] / "masks").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 255, 255, 3 - mask).astype(np.uint8)).save(path)
    for site in sites:
        assert evaluate("folder", "--data", site, "--model", model_folder).exit_code == 0
    outs = list((tmp_path / "runs" / "evaluate").iterdir())
    assert len(outs) == 2
    assert len({result(out)["miou"] for out in outs}) == 2


def test_corrected_masks_are_counted_again(model_folder: Path, tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data", images=2)
    out = tmp_path / "out"
    command = words("folder", data, model_folder, out)
    assert evaluate(*command).exit_code == 0
    before = result(out)
    for path in (data / "masks").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 0, 1, mask)).save(path)
    assert evaluate(*command).exit_code == 0
    after = result(out)
    assert (before["miou"], before["masks_sha256"]) != (after["miou"], after["masks_sha256"])
    fresh = tmp_path / "fresh"
    assert evaluate(*words("folder", data, model_folder, fresh)).exit_code == 0
    assert after == result(fresh)


def test_score_counts_anybodys_maps(model_folder: Path, tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data", images=3)
    command = words("folder", data, model_folder, tmp_path / "out")
    assert evaluate(*command).exit_code == 0
    maps = tmp_path / "out" / "predictions"
    file = tmp_path / "score.json"
    done = invoke("score", maps, "folder", "--data", data, "--json", file)
    assert done.exit_code == 0, done.output
    scored = json.loads(file.read_text())
    evaluated = result(tmp_path / "out")
    for name in ("miou", "per_category", "boundary_iou", "masks_sha256"):
        assert scored[name] == evaluated[name]
    (maps / "photo-1.png").unlink()
    invoke("score", maps, "folder", "--data", data).fails("photo-1.png")
