"""`disa segment` of many pictures: names of results, processes, and results that are there."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from segmenting import LABELS, assert_same, files_in, many

from disa.inference import folder


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


def test_processes_that_draw_change_no_file(pictures: Path, tmp_path: Path, segment):
    many(pictures, 9)
    (pictures / "q03.png").write_bytes(b"no picture")
    for workers in (0, 2):
        out = tmp_path / f"out{workers}"
        result = segment(pictures, "--out", out, "--workers", workers, "--saliency")
        assert result.exit_code == 1
        assert "11 of 12 pictures segmented" in result.stdout
    assert len(files_in(tmp_path / "out0")) == 11 * 4
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
    from children import run_together  # Windows has no forks

    options = ["--labels", LABELS, "--model", model_folder, "--device", "cpu", "--workers", "0"]
    two = tmp_path / "two"
    first, second = run_together(["segment", pictures, *options, "--out", two], two)
    assert (first.code, second.code) == (0, 0), (first, second)
    # One process speaks for both: the model, and what was done.
    assert second.said == ""
    model_line, last_line = first.said.splitlines()
    assert model_line.startswith("model ")
    assert last_line == f"3 pictures segmented, in {two}"
    assert segment(pictures, "--out", tmp_path / "one", "--workers", "0").exit_code == 0
    assert files_in(tmp_path / "two").keys() == files_in(tmp_path / "one").keys()
