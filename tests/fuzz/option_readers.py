"""Lists, classes, what is typed, and files of options."""

import json
from pathlib import Path

import miniatures
from PIL import Image
from reader import HEIGHT, LABELS, WIDTH, Reader, pixels, write_json

from disa.data.dataset import open_dataset
from disa.data.images import read_image
from disa.data.picture_paths import expand
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError
from disa.inference.labels import check_templates, parse_background, parse_labels
from disa.interfaces.cli import parse


def write_data(folder: Path, classes: str, content: str) -> None:
    """Write a data set of one's own with two pictures."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for name in ("a", "b c"):
        miniatures.photograph(folder / "images" / f"{name}.jpg", HEIGHT, WIDTH, 0)
        miniatures.save_png(folder / "masks" / f"{name}.png", pixels(1) % 3)
    (folder / classes).write_text(content)
    (folder / "val.txt").write_text("# of two\na\nimages/b c.jpg, masks\\b c.png\n")


def write_listed(folder: Path) -> None:
    write_data(folder, "classes.txt", "0: boat|ship\n1: sea  # all of it\n2: sky\n")


def write_described(folder: Path) -> None:
    categories = [
        {"name": "boat", "synonyms": ["ship"], "kind": "thing", "id": 0},
        {"name": "sea", "kind": "stuff", "id": 1},
        "sky",
    ]
    write_data(folder, "classes.json", json.dumps({"categories": categories, "ignored": [9]}))


def read_data(folder: Path, file: Path) -> None:
    dataset = open_dataset("folder", folder, "val")
    for index in range(len(dataset.ids)):
        dataset.labels(index)


def write_classes(folder: Path) -> None:
    (folder / "classes.txt").write_text("boat|ship\nsea\nsky\n")
    (folder / "labelmap.txt").write_text("# label:color\nboat:10,200,30::\nsea:0,0,0:a:b\n")
    write_json(folder / "classes.json", {"categories": [{"name": "boat", "color": [1, 2, 3]}]})
    write_json(folder / "list.json", ["boat|ship", "sea"])


def read_classes(folder: Path, file: Path) -> None:
    vocabulary = load_vocabulary(file)
    for synonyms in (False, True):
        parse_labels(vocabulary.labels(synonyms))
    vocabulary.identical()


def write_texts(folder: Path) -> None:
    (folder / "labels.txt").write_text('boat|ship, "traffic light, red", sea')
    (folder / "background.txt").write_text("wall, floor")
    (folder / "template.txt").write_text("a picture of a {}")
    (folder / "pictures.txt").write_text("**/a*.png")
    Image.fromarray(pixels()).save(folder / "a.png")


def read_texts(folder: Path, file: Path) -> None:
    """Read what is typed, in which bytes that are no text are escapes."""
    text = file.read_bytes().decode(errors="surrogateescape")
    if file.stem == "labels":
        parse_labels(text)
    elif file.stem == "background":
        parse_background(text, LABELS)
    elif file.stem == "template":
        check_templates((text,))
    else:
        # No command line can hold a zero.
        for each in expand([f"{folder}/{text}".replace("\0", "")]).files:
            read_image(each)


def write_options(folder: Path) -> None:
    (folder / "segment.yaml").write_text(
        "images: [a.png]\nlabels:\n- boat|ship, sea\nout: results\nbackground: '0.3'\nsize: 96\n"
        "overlap: 0.5\nstretch: true\nformat: [coco]\nworkers: 0\n"
    )
    (folder / "segment.toml").write_text(
        'images = ["a.png"]\nlabels = ["boat, sea"]\nout = "results"\nscores = false\ngate = 3\n'
    )
    (folder / "train.yaml").write_text(
        "recipe: mini\nout: run\nclip: random\nset: [cost_channels=8]\nsteps: 3\n"
    )


def read_options(folder: Path, file: Path) -> None:
    try:
        record = parse(file.stem, ["--config", str(file)])
    except SystemExit as error:
        # tyro says itself what is no value of an option.
        if error.code != 2:
            raise
        raise DisaError("refused by tyro") from None
    if file.stem == "segment":
        record.request.parse()


READERS = (
    Reader("listed-data", write_listed, read_data, ("*.txt", "masks/a.png")),
    Reader("described-data", write_described, read_data, ("*.json", "val.txt")),
    Reader("classes", write_classes, read_classes, tries=150),
    Reader("texts", write_texts, read_texts, ("*.txt",), tries=100),
    Reader("options", write_options, read_options),
)
