"""Every reader of what comes from outside: a whole input for it, and how it is read."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import catseg_formats
import clip_formats
import miniatures
import numpy as np
import torch
from PIL import Image
from small_run import small_config
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from disa.data import pascal_context
from disa.data.dataset import open_dataset
from disa.data.images import read_image, read_size
from disa.data.imports.sources import read_annotations
from disa.data.imports.writing import write_folder
from disa.data.masks import read_colours, read_indices
from disa.data.picture_paths import expand
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError
from disa.evaluation.predictions import PredictionFolder
from disa.formats.write import parse_formats, write_formats
from disa.inference.labels import check_templates, parse_background, parse_labels
from disa.inference.result_names import result_names
from disa.inference.segmenter import Segmenter, load
from disa.interfaces.cli import parse
from disa.model.disa import Disa
from disa.pretraining.byte_pairs import save_tokenizer, train_tokenizer
from disa.training.optimizer import optimizer, restore_run, run_tensors
from disa.training.run_folder import Checkpoint, RunFolder, write_checkpoint
from disa.training.run_log import open_log
from disa.training.settings import TrainConfig
from disa.weights.catseg import read_catseg
from disa.weights.model_folder import load_tokenizer, save

HEIGHT, WIDTH = SIZE = (12, 20)
LABELS = ("boat|ship", "sea")


class Reader(NamedTuple):
    """`write` fills a folder, of which the `files` are damaged; `read` gets it and the damaged."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path, Path], object]
    files: tuple[str, ...] = ("*",)
    tries: int = 20  # in the tests


def pixels(channels: int = 3) -> np.ndarray:
    shape = (*SIZE, channels) if channels > 1 else SIZE
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


# Pictures and masks


def write_pictures(folder: Path) -> None:
    picture = Image.fromarray(pixels())
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("avif", "bmp", "gif", "jp2", "jpg", "ppm", "tga", "webp", "tif"):
        options = {"exif": exif} if suffix in ("jpg", "webp", "tif") else {}
        picture.save(folder / f"a.{suffix}", **options)
    picture.quantize(9).save(folder / "palette.png", transparency=3)
    picture.quantize(9).save(folder / "palette.bmp")
    Image.fromarray(pixels(4)).save(folder / "a.png", exif=exif)
    Image.fromarray(pixels(1).astype(np.uint16) * 99).save(folder / "deep.png")
    Image.fromarray(pixels(4), "CMYK").save(folder / "cmyk.tif", compression="tiff_lzw")
    Image.fromarray(pixels(1).astype(np.float32) / 255).save(folder / "floats.tif")
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()
    picture.resize((64, 64)).save(folder / "a.heic")


def read_pictures(folder: Path, file: Path) -> None:
    read_image(file)
    read_size(file)


def write_masks(folder: Path) -> None:
    labels = pixels(1) % 5
    miniatures.save_png(folder / "grey.png", labels)
    miniatures.save_png(folder / "palette.png", labels, palette=True)
    miniatures.save_png(folder / "deep.png", labels.astype(np.uint16) * 300)
    Image.fromarray(pixels()).save(folder / "colours.png")


def read_masks(folder: Path, file: Path) -> None:
    (read_colours if file.stem == "colours" else read_indices)(file)


# Lists, classes and options


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


# Weights


@cache
def picture() -> np.ndarray:
    return pixels()


def segment(segmenter: Segmenter) -> None:
    segmenter(picture(), LABELS)


def read_model(folder: Path, file: Path) -> None:
    segment(load(folder, "cpu"))


def write_model(folder: Path) -> None:
    torch.manual_seed(0)
    save(Disa(small_config(things=True, decode_enlarge=True, decode_detail_channels=8)), folder)
    save_tokenizer(train_tokenizer(["a picture of a house by the sea"] * 30, 600), folder, 32)


def read_tokenizer(folder: Path, file: Path) -> None:
    tokenizer = load_tokenizer(file, end_id=1, vocabulary=600)
    tokenizer.encode_batch(["a picture of a boat", "", "\u6d77 \U0001f600" * 50])


def write_clip(form: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        clip = clip_formats.small_clip(context=32)
        if form == "openai":
            torch.save(clip_formats.openai_state(clip), folder / "ViT.pt")
        else:
            clip_formats.write_folder(clip, folder, form)
        names = [f"word{number}" for number in range(clip_formats.WORDS - 2)]
        ids = {name: number for number, name in enumerate([*names, "<start>", "<end>"])}
        tokenizer = Tokenizer(WordLevel(ids, unk_token=names[0]))
        marks = [(name, ids[name]) for name in ("<start>", "<end>")]
        tokenizer.post_processor = TemplateProcessing(
            single="<start> $A <end>", special_tokens=marks
        )
        tokenizer.save(str(folder / "tokenizer.json"))

    return write


def read_openai(folder: Path, file: Path) -> None:
    segment(load(folder / "ViT.pt", "cpu"))


def write_catseg(folder: Path) -> None:
    state = catseg_formats.official_state()
    torch.save({"model": state, "iteration": 3}, folder / "model.pth")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)


# Results and runs


def write_results(folder: Path) -> None:
    miniatures.photograph(folder / "a.jpg", HEIGHT, WIDTH, 0)
    for name, source in (("a", "a.jpg"), ("stdin", None)):
        labels = pixels(1) % 3
        labels[labels == 2] = 255
        miniatures.save_png(folder / "out" / f"{name}_labels.png", labels, palette=True)
        words = [
            {"word": word, "index": index, "colour": [9, 9, 9]} for index, word in enumerate(LABELS)
        ]
        data = {"image": source, "width": WIDTH, "height": HEIGHT, "words": words}
        write_json(folder / "out" / f"{name}.json", data)


def read_results(folder: Path, file: Path) -> None:
    out = folder / "out"
    result_names([folder / "a.jpg"], [out])
    formats = ("coco", "cvat", "label-studio", "yolo", "geotiff", "geojson")
    write_formats(out, LABELS, parse_formats(formats, 1.0))


def network() -> tuple[torch.nn.Module, torch.optim.AdamW, dict[str, torch.Tensor]]:
    model = torch.nn.Linear(3, 4)
    adam = optimizer(model, {"head": ["weight", "bias"]}, TrainConfig())
    return model, adam, {"weight": torch.zeros(4, 3)}


def write_run(folder: Path) -> None:
    model, adam, averages = network()
    model(torch.ones(5, 3)).sum().backward()
    adam.step()
    run = RunFolder(folder)
    state = {"step": 3, "scale": None, "training": {"seed": 1}, "data": {"a": "1:ff"}}
    write_checkpoint(run.checkpoints, Checkpoint(run_tensors(model, adam, averages), state))
    run.keep_best(2, 30.5, 5)
    write_json(run.starts, [{"command": ["disa"], "step": 0}])
    lines = [{"step": step, "loss": 1.5, "norm": None} for step in range(3)]
    lines.append({"step": 2, "evaluation": {"miou": 30.5, "images": 5}})
    run.log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_run(folder: Path, file: Path) -> None:
    run = RunFolder(folder)
    with run.held():
        checkpoint = run.checkpoint_to_continue({"training": {"seed": 1}}, resume=True)
        if checkpoint is not None:
            restore_run(checkpoint.tensors, *network())
        run.is_best(1.0, 5)
        run.begin({}, 3)
        with open_log(run.log, 5, 3) as log:
            log.step(3, {"loss": 1.0})


def write_predictions(folder: Path) -> None:
    write_described(folder)
    (folder / "maps").mkdir()
    PredictionFolder(folder / "maps", open_dataset("folder", folder)).open({"model": "mini"})


def read_predictions(folder: Path, file: Path) -> None:
    PredictionFolder(folder / "maps", open_dataset("folder", folder)).open({"model": "mini"})


# Data sets of others


def read_pc59(folder: Path, file: Path) -> None:
    root = folder / "VOCdevkit" / "VOC2010"
    ids = pascal_context.val_ids(root)
    for annotations in pascal_context.read_annotations(file, ids).values():
        pascal_context.decode(annotations)


def read_pc459(folder: Path, file: Path) -> None:
    pascal_context.read_label_map(file)


CORNERS = [[2, 2], [10, 2], [10, 10], [2, 10]]


def write_coco(folder: Path) -> None:
    runs = miniatures.run_lengths((pixels(1) > 99).astype(int))
    shapes = [
        [[number for corner in CORNERS for number in corner]],
        {"counts": runs, "size": list(SIZE)},
        {"counts": miniatures.compressed(runs), "size": list(SIZE)},
    ]
    annotations = [
        {"id": number, "image_id": 10, "category_id": 7, "segmentation": shape}
        for number, shape in enumerate(shapes)
    ]
    image = {"id": 10, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    categories = [{"id": 7, "name": "boat"}, {"id": 3, "name": "sea", "isthing": 0}]
    data = {"images": [image], "categories": categories, "annotations": annotations}
    write_json(folder / "a.json", data)


def write_panoptic(folder: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[2:9, 3:9, 0] = 5
    miniatures.save_png(folder / "a" / "a.png", colours)
    segments = [{"id": 5, "category_id": 7}]
    data = {
        "images": [{"id": 10, "file_name": "a.jpg"}],
        "categories": [{"id": 7, "name": "boat", "isthing": 1}],
        "annotations": [{"image_id": 10, "file_name": "a.png", "segments_info": segments}],
    }
    write_json(folder / "a.json", data)


def write_labelme(folder: Path) -> None:
    shapes = [
        {"label": "sea", "points": CORNERS, "shape_type": "polygon"},
        {"label": "sun", "points": [[16, 4], [16, 6]], "shape_type": "circle"},
        {"label": "sky", "points": [[1, 1], [4, 3]], "shape_type": "rectangle"},
        {
            "label": "boat",
            "points": [[1, 9], [4, 11]],
            "shape_type": "mask",
            "mask": "iVBORw0KGgo=",
        },
    ]
    write_json(folder / "a.json", {"shapes": shapes, "imagePath": "a.jpg", "imageData": None})


def write_label_studio(folder: Path) -> None:
    def region(kind: str, label: str, **value: object) -> dict:
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        return {"type": f"{kind}labels", **size, "value": {**value, f"{kind}labels": [label]}}

    # 4 x 240 values of 8 bits in one run, whose length has 16 bits.
    values = 4 * HEIGHT * WIDTH
    bits = f"{values:032b}{7:05b}{15:04b}{15:04b}{15:04b}{15:04b}100{values - 1:016b}{255:08b}"
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]
    results = [
        region("brush", "sea", format="rle", rle=packed),
        region("rectangle", "boat", x=40, y=50, width=25, height=25, rotation=10),
        region("polygon", "boat", points=[[0, 0], [15, 0], [15, 8], [0, 8]]),
        region("ellipse", "sun", x=80, y=30, radiusX=10, radiusY=17),
    ]
    done = [{"result": results, "was_cancelled": False}]
    write_json(folder / "a.json", [{"data": {"image": "/data/a.jpg"}, "annotations": done}])


def write_voc(folder: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[2:9, 3:9] = (10, 200, 30)
    miniatures.save_png(folder / "SegmentationClass" / "a.png", colours)
    (folder / "labelmap.txt").write_text("boat:10,200,30::\nsea:0,0,0::\n")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\n")


def with_picture(write: Callable[[Path], object]) -> Callable[[Path], object]:
    def both(folder: Path) -> None:
        write(folder)
        miniatures.photograph(folder / "a.jpg", HEIGHT, WIDTH, 0)

    return both


def read_imported(folder: Path, file: Path) -> None:
    out = folder.with_name("imported")
    out.mkdir(exist_ok=True)
    for written in sorted(out.rglob("*"), reverse=True):
        written.rmdir() if written.is_dir() else written.unlink()
    write_folder(read_annotations(folder), folder, out, None, lambda done, total: None)
    open_dataset("folder", out).labels(0)


READERS = (
    Reader("pictures", write_pictures, read_pictures, tries=150),
    Reader("masks", write_masks, read_masks, tries=60),
    Reader("listed-data", write_listed, read_data, ("*.txt", "masks/a.png")),
    Reader("described-data", write_described, read_data, ("*.json", "val.txt")),
    Reader("classes", write_classes, read_classes, tries=150),
    Reader("texts", write_texts, read_texts, ("*.txt",), tries=100),
    Reader("options", write_options, read_options),
    Reader("model", write_model, read_model, ("*.json", "model.safetensors")),
    Reader("tokenizer", write_model, read_tokenizer, ("tokenizer.json",), tries=40),
    Reader("clip", write_clip("safetensors"), read_model, ("config.json", "model.safetensors")),
    Reader("clip-bin", write_clip("bin"), read_model, ("*.bin",), tries=10),
    Reader("clip-parts", write_clip("sharded"), read_model, ("*.index.json", "b.safetensors")),
    Reader("openai", write_clip("openai"), read_openai, ("ViT.pt",)),
    Reader("catseg", write_catseg, lambda folder, file: read_catseg(file), tries=10),
    Reader("results", write_results, read_results, ("out/*",), tries=10),
    Reader("run", write_run, read_run, ("*.json*", "checkpoints/*/*"), tries=40),
    Reader("predictions", write_predictions, read_predictions, ("maps/*.json",)),
    Reader("pc59", lambda folder: miniatures.pc59(folder, "val"), read_pc59, ("*/*/*.json",)),
    Reader("pc459", lambda folder: miniatures.pc459(folder, "val"), read_pc459, ("**/*.mat",)),
    Reader("coco", with_picture(write_coco), read_imported, ("*.json",)),
    Reader("panoptic", with_picture(write_panoptic), read_imported, ("*.json", "a/a.png")),
    Reader("labelme", with_picture(write_labelme), read_imported, ("*.json",)),
    Reader("label-studio", with_picture(write_label_studio), read_imported, ("*.json",)),
    Reader("voc", with_picture(write_voc), read_imported, ("*/*.png", "*.txt", "*/*/*.txt")),
)
