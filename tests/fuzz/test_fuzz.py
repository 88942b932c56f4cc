"""A few damaged inputs for each reader, the same every time; `fuzz.py` makes more, without end."""

import json
import struct
import zlib
from pathlib import Path

import pytest
from fuzz import Bench
from reader import Reader
from readers import READERS

BY_NAME = {reader.name: reader for reader in READERS}
DEEP = b"[" * 5000 + b"]" * 5000


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damage_is_an_answer_or_one_line(reader: Reader, tmp_path: Path):
    bench = Bench(reader, tmp_path)
    bench.check_whole()
    for number in range(reader.tries):
        fault = bench.run(number).fault
        again = f"python tests/fuzz/fuzz.py --readers {reader.name} --number {number}"
        assert not fault, f"{again}\n{fault}"


def png_of(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (header, b"IDAT" + zlib.compress(b""), b"IEND")
    chunks = (
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def of_pc59(**changes: object) -> bytes:
    image = {"image_id": 7, "file_name": "2008_000002.jpg", "height": 9, "width": 12}
    data = {"images": [image | changes], "annos_segmentation": []}
    return json.dumps(data).encode()


CLASSES = "classes.json"
PC59 = "VOCdevkit/VOC2010/trainval_merged.json"
STATE = "checkpoints/step-00000003/state.json"
# What was a traceback once, or took hours or all memory: reader, file and content.
FINDINGS = (
    ("classes", "labelmap.txt", b"a:" + b"9" * 5000 + b"::"),
    ("classes", "classes.txt", b"9" * 5000 + b": a"),
    ("described-data", CLASSES, b'{"categories": ["a"], "ignored": [1e999]}'),
    ("described-data", CLASSES, b'{"categories": ["a"], "ignored": ["\\ud800"]}'),
    ("listed-data", "val.txt", b"a " * 10**6),
    ("options", "train.yaml", b"recipe:\nout: o\n"),
    ("options", "train.yaml", b"recipe: [a]\nout: o\n"),
    ("options", "segment.yaml", b"labels: &a [*a]"),
    ("options", "segment.yaml", b"!!timestamp a"),
    ("options", "segment.yaml", DEEP),
    ("options", "segment.toml", b"a = " + DEEP),
    ("run", "log.jsonl", b'{"step": 0, "loss": 1}\n{"step": 1, "no\xffte": 1}\n{"step": 2, "lo'),
    ("run", "log.jsonl", b'{"step": "a"}\n[]\n{"step": 1, "evaluation": 3}\n'),
    ("run", "best.json", b'{"step": 1, "miou": "a", "images": 5}'),
    ("run", "best.json", DEEP),
    ("run", "run.json", DEEP),
    ("run", STATE, b'{"step": [], "training": 3}'),
    ("run", STATE, b'{"step": 3, "training": []}'),
    ("predictions", "maps/predictions.json", b"[]"),
    (
        "bench",
        "bench.json",
        b'{"model": [{"labels": 2, "multiples": {"call": 1%s}}]}' % (b"0" * 400),
    ),
    ("predictions", "maps/predictions.json", b'{"contents": {"a": []}}'),
    ("results", "out/a.json", b'{"image": null, "width": 1e999, "height": -1, "words": []}'),
    ("results", "out/a.json", b'{"image": "\\u0000", "width": 20, "height": 12, "words": []}'),
    ("pc59", PC59, of_pc59(height=1e999)),
    ("pc59", PC59, of_pc59(height=-5, width=-5)),
    ("pc59", PC59, of_pc59(height=10**9)),
    ("clip", "config.json", b'{"model_type": "clip", "text_config": [], "vision_config": [1]}'),
    ("clip", "config.json", b'{"model_type": "clip", "projection_dim": 1000000000000}'),
    ("clip-parts", "model.safetensors.index.json", b'{"weight_map": [1]}'),
    ("clip-parts", "model.safetensors.index.json", b'{"weight_map": {"a": ".."}}'),
    ("model", "config.json", DEEP),
    ("model", "model.safetensors", b"12345"),
    ("openai", "ViT.pt", b"\x80\x02."),
    ("openai", "ViT.pt", b"some text\n"),
    ("catseg", "model.pth", b"\x80\x02K\x01."),
    ("places", "b.png", png_of(500_000_000, 12)),  # 18 GB
)


@pytest.mark.parametrize(("name", "file", "content"), FINDINGS)
def test_what_was_found_once(name: str, file: str, content: bytes, tmp_path: Path):
    bench = Bench(BY_NAME[name], tmp_path)
    assert (bench.whole / file).is_file()
    assert not bench.read(bench.whole / file, content).fault


def test_a_type_that_there_is_not_in_a_mat_file(tmp_path: Path):
    """scipy 1.17 looked it up outside of its table, and the process ended."""
    bench = Bench(BY_NAME["pc459"], tmp_path)
    file = next(bench.whole.rglob("2009_000000.mat"))
    content = file.read_bytes()
    numbers = struct.pack("<II", 2, 20 * 23)  # 8 bits each
    assert content.count(numbers) == 1
    damaged = content.replace(numbers, struct.pack("<II", 0x4002, 20 * 23))
    assert bench.read(file, damaged).kind == "refusal"


@pytest.mark.parametrize("outputs", [[], ["matched"], ["logits", "logits"], ["logits", "chosen"]])
def test_an_export_that_says_other_outputs_than_its_graph_has(outputs: list[str], tmp_path: Path):
    bench = Bench(BY_NAME["export"], tmp_path)
    file = bench.whole / "config.json"
    data = json.loads(file.read_text()) | {"outputs": outputs}
    assert bench.read(file, json.dumps(data).encode()).kind == "refusal"
