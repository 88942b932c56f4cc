"""Models in every form, and exports."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import catseg_formats
import clip_formats
import torch
from reader import LABELS, Reader, pixels, write_json
from small_run import small_config
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from disa.inference.segmenter import Segmenter, load
from disa.model.disa import Disa
from disa.pretraining.byte_pairs import save_tokenizer, train_tokenizer
from disa.recipes import BASELINE
from disa.weights.catseg import read_catseg
from disa.weights.model_folder import save
from disa.weights.tokenizer import load_tokenizer

# Graphs that compute next to nothing, in the form of an export of patch 8 and width 32.
TEXT_GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
text (int64[M, L] ids) => (float[M, 32] embeddings) {
    axis = Constant <value_ints = [1]> ()
    numbers = Cast <to = 1> (ids)
    mean = ReduceMean (numbers, axis)
    width = Constant <value_ints = [1, 32]> ()
    embeddings = Expand (mean, width)
}
"""
IMAGE_GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
image (float[B, 3, H, W] pixels, float[T, P, 32] text) => (float[B, T, R, C] logits) {
    colours = Constant <value_ints = [1]> ()
    grey = ReduceMean (pixels, colours)
    small = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (grey)
    prompts = Constant <value_ints = [1, 2]> ()
    means = ReduceMean <keepdims = 0> (text, prompts)
    shape = Constant <value_ints = [1, -1, 1, 1]> ()
    weights = Reshape (means, shape)
    logits = Mul (small, weights)
}
"""


def segment(segmenter: Segmenter) -> None:
    segmenter(pixels(), LABELS)


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


@cache
def segmenter() -> Segmenter:
    """Return a small model with random weights."""
    with TemporaryDirectory() as folder:
        write_model(Path(folder))
        return load(folder, "cpu")


def write_export(folder: Path) -> None:
    import onnx

    for name, text in (("text", TEXT_GRAPH), ("image", IMAGE_GRAPH)):
        onnx.save(onnx.parser.parse_model(text), folder / f"{name}.onnx")
    save_tokenizer(train_tokenizer(["a picture of a house by the sea"] * 30, 600), folder, 32)
    config = small_config(**BASELINE).to_dict()
    facts = {"format": 1, "kind": "disa-export", "runtime": "onnx", "outputs": ["logits"]}
    write_json(folder / "config.json", facts | {"model": config})


READERS = (
    Reader("model", write_model, read_model, ("*.json", "model.safetensors")),
    Reader("tokenizer", write_model, read_tokenizer, ("tokenizer.json",), tries=40),
    Reader("clip", write_clip("safetensors"), read_model, ("config.json", "model.safetensors")),
    Reader("clip-bin", write_clip("bin"), read_model, ("*.bin",), tries=10),
    Reader("clip-parts", write_clip("sharded"), read_model, ("*.index.json", "b.safetensors")),
    Reader("openai", write_clip("openai"), read_openai, ("ViT.pt",)),
    Reader("catseg", write_catseg, lambda folder, file: read_catseg(file), tries=10),
    Reader("export", write_export, read_model, ("config.json", "*.onnx"), tries=60),
)
