import json
from pathlib import Path

import numpy as np
from command_line import Result, invoke
from PIL import Image

from disa.picturebook import NOUNS, render


def picturebook(*arguments: object) -> Result:
    return invoke(["picturebook", *map(str, arguments)])


def test_pictures_masks_and_captions_are_the_worlds_own(tmp_path: Path):
    out = tmp_path / "scenes"
    result = picturebook(out, "--count", 2, "--size", 40, "--seed", 7, "--masks")
    assert (result.exit_code, result.stdout) == (
        0,
        f"2 scenes are in {out}, masks in {out / 'masks'}\n",
    )
    data = json.loads((out / "scenes.json").read_text())
    assert (data["seed"], data["words"]) == (7, list(NOUNS))
    for index in range(2):
        scene, name = render(7, index, 40), f"scene-{index:04d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(out / name)), scene.image)
        np.testing.assert_array_equal(np.asarray(Image.open(out / "masks" / name)), scene.labels)
        assert data["scenes"][name] == {"caption": scene.caption, "words": list(scene.nouns)}


def test_without_masks_the_folder_holds_pictures_only(tmp_path: Path):
    assert picturebook(tmp_path, "--count", 1, "--size", 8).stdout == f"1 scene is in {tmp_path}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["scene-0000.png"]


def test_what_cannot_be_drawn_or_written_is_refused(tmp_path: Path):
    for size in (7, 4097):
        picturebook(tmp_path / "out", "--size", size).fails(f"--size {size}", "8", "4096")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    picturebook(tmp_path / "file").fails(tmp_path / "file")
