"""From a network to the graphs of `weights.exported`, and how far they answer as it does."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from disa.errors import DisaError
from disa.inference.text import TextEncoder
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.picturebook import NOUNS
from disa.running.extras import require
from disa.running.files import write_folder, write_json
from disa.weights.exported import (
    ENDINGS,
    IMAGE,
    TEXT,
    ExportedModel,
    load_exported,
)
from disa.weights.model_folder import FORMAT
from disa.weights.names import CONFIG, EXPORT, TOKENIZER

Runtime = Literal["onnx", "torch"]

TOLERANCE = 1e-4  # of an output's largest value
AGREEMENT = 0.999  # share of the pixels with the same label
TIE = 1e-5  # of the largest logit: labels closer than that are the same


class Comparison(NamedTuple):
    """How an export and the network differ on some images and labels."""

    images: int
    labels: int
    height: int  # pixels of the images
    width: int
    difference: float  # largest of all outputs, in shares of the output's largest value
    agreement: float  # share of the pixels with the same best label

    @property
    def holds(self) -> bool:
        """Whether the export says what the network says."""
        return self.difference <= TOLERANCE and self.agreement >= AGREEMENT


def export(
    model: Disa | DenseClip, tokenizer: Tokenizer, out: Path, runtime: Runtime, int8: bool = False
) -> list[Comparison]:
    """Write the model as graphs and return how they differ from it.

    int8: store the weights of matrix products in 8 bit, and quantise what meets them on the fly;
    the graphs in 32 bit are compared first, then those in 8 bit, of which the result tells. The
    folder appears whole, or not at all. Raises `DisaError` if the graphs in 32 bit say anything
    else than the network, if a package is missing, and if the disk refuses.
    """
    if int8 and runtime != "onnx":
        raise DisaError(f"int8 is for onnx only, not for {runtime}; leave it out")
    if runtime == "onnx":
        require("ONNX", "onnx", "onnxruntime", "onnx", "onnxscript")
    return write_folder(out, lambda part: _written(model, tokenizer, part, runtime, int8))


def _written(
    model: Disa | DenseClip, tokenizer: Tokenizer, folder: Path, runtime: Runtime, int8: bool
) -> list[Comparison]:
    """Write the graphs and compare them. Raises `DisaError` where they differ from the network."""
    _write(model, tokenizer, folder, runtime)
    comparisons = compare(model, load_exported(folder), tokenizer)
    for each in comparisons:
        if not each.holds:
            raise DisaError(
                f"the export of {each.images} images of {each.width} x {each.height} pixels "
                f"with {each.labels} labels differs from the network by {each.difference:.1e} "
                f"of the largest value, {each.agreement:.2%} equal labels; nothing is written"
            )
    if int8:
        _quantise(folder)
        comparisons = compare(model, load_exported(folder), tokenizer)
    return comparisons


@torch.inference_mode()
def compare(
    model: Disa | DenseClip, exported: ExportedModel, tokenizer: Tokenizer
) -> list[Comparison]:
    """Return how the two differ on several sizes, numbers of images and numbers of labels."""
    side = model.config.backbone_image_size // model.patch_size
    small = max(2, side // 3)
    # images, labels, rows and columns of patches: also less than a window and more labels than the
    # head computes.
    cases = (
        (1, 3, side, side),
        (2, 1, side, side + 5),
        (1, 20, side + 1, small),
        (3, 5, small, small + 1),
        (1, model.config.max_categories + 4, small, small),
    )
    return [_compare(model, exported, tokenizer, *case) for case in cases]


def _compare(
    model: Disa | DenseClip,
    exported: ExportedModel,
    tokenizer: Tokenizer,
    images: int,
    labels: int,
    rows: int,
    columns: int,
) -> Comparison:
    names = [f"{NOUNS[index % len(NOUNS)]} {index}" for index in range(labels)]
    text = TextEncoder(model, tokenizer)(names)
    own = TextEncoder(exported, tokenizer)(names)

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(images, 3, rows, columns, generator=generator) * 255
    pixels = F.interpolate(coarse, scale_factor=model.patch_size, mode="bilinear")
    expected = model(pixels, text)
    found = exported(pixels, own)

    # Labels that both left out would hide differences: their logit is larger than any other.
    fill = model.config.dropped_logit
    dropped = (expected.logits == fill) & (found.logits == fill)
    compared, others = (
        each._replace(logits=each.logits.masked_fill(dropped, 0)) for each in (expected, found)
    )

    # Text and whatever the network gives: the largest of the differences.
    pairs: list[tuple[Any, Any]] = [(text, own), *zip(compared, others, strict=True)]
    differences = [_difference(value, other) for value, other in pairs if value is not None]
    difference = float(torch.stack(differences).max())
    # Labels within rounding of the best are equally right (decision D56).
    best = expected.logits.amax(1, keepdim=True)
    chosen = expected.logits.gather(1, found.logits.argmax(1, keepdim=True))
    same = chosen >= best - TIE * compared.logits.abs().max()
    height, width = pixels.shape[2:]
    return Comparison(images, labels, height, width, difference, float(same.float().mean()))


def _difference(expected: Tensor, found: Tensor) -> Tensor:
    largest = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return (found - expected).abs().max() / largest  # not a number where one of them is none


class _TextGraph(nn.Module):
    """Token ids -> embeddings."""

    def __init__(self, model: Disa | DenseClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> tuple[Tensor]:
        return (self.model.encode_text(ids),)


class _ImageGraph(nn.Module):
    """Pixels and embeddings -> the fields of `Prediction` that are not None."""

    def __init__(self, model: Disa | DenseClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        model: Any = self.model  # each kind looks in its own way
        found = model.answer(model.look(pixels), text)
        return tuple(value for value in found if value is not None)


@torch.no_grad()
def _write(model: Disa | DenseClip, tokenizer: Tokenizer, folder: Path, runtime: Runtime) -> None:
    # The examples only show how many axes there are: images and labels, sizes and lengths are free.
    reads = model.backbone.clip.config.text_config.max_position_embeddings
    length = Dim("length", min=2, max=reads)
    ids = torch.zeros(3, min(7, reads), dtype=torch.long)
    texts = torch.export.export(
        _TextGraph(model), (ids,), dynamic_shapes=({0: Dim("texts"), 1: length},)
    )

    patch = model.patch_size
    pixels = torch.zeros(2, 3, 13 * patch, 9 * patch)
    text = torch.ones(3, len(model.config.backbone_templates), model.backbone.embedding_width)
    sides = {2: patch * Dim("rows"), 3: patch * Dim("columns")}
    graph = _ImageGraph(model)
    images = torch.export.export(
        graph, (pixels, text), dynamic_shapes=({0: Dim("images")} | sides, {0: Dim.DYNAMIC})
    )

    # The network itself has nothing chosen where the labels are few; its graph always has.
    found = model(pixels, text)._replace(chosen=text if isinstance(model, Disa) else None)
    outputs = [name for name, value in found._asdict().items() if value is not None]
    _save(texts, folder / f"{TEXT}{ENDINGS[runtime]}", ["ids"], ["embeddings"])
    _save(images, folder / f"{IMAGE}{ENDINGS[runtime]}", ["pixels", "text"], outputs)

    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    data = {"format": FORMAT, "kind": EXPORT, "runtime": runtime, "outputs": outputs}
    write_json(folder / CONFIG, data | {"model": model.config.to_dict()}, indent=2)


def _save(
    program: ExportedProgram, path: Path, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    if path.suffix == ENDINGS["torch"]:
        torch.export.save(program, path)
        return
    aten = torch.ops.aten
    with _quiet():
        graph = torch.onnx.export(
            program,
            input_names=inputs,
            output_names=outputs,
            custom_translation_table={
                aten.sort.stable: _stable_sort,
                aten.unfold.default: _unfold,
            },
            verbose=False,
        )
        assert graph is not None
        graph.save(path)


def _stable_sort(values: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """Return `sort(stable=True)` as ONNX writes it: `TopK` puts the first of equals first."""
    from onnxscript import opset18 as op

    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]), axis=0)
    return op.TopK(values, count, axis=dim, largest=int(descending), sorted=1)


def _unfold(values: Any, dimension: int, size: int, step: int) -> Any:
    """Return `unfold` as ONNX writes it: all windows along an axis, whose places come last.

    onnxscript's own (0.7.2) drops every axis of length 1, and leaves the places in the middle.
    """
    from onnxscript import opset18 as op

    first = op.Constant(value_ints=[0])
    length = op.Squeeze(op.Gather(op.Shape(values), op.Constant(value_ints=[dimension])), first)
    last = op.Sub(length, op.Constant(value_int=size - 1))
    starts = op.Range(op.Constant(value_int=0), last, op.Constant(value_int=step))
    inside = op.Constant(value_ints=list(range(size)))
    places = op.Add(op.Unsqueeze(starts, op.Constant(value_ints=[1])), inside)
    windows = op.Gather(values, places, axis=dimension)
    axes = list(range(len(values.shape) + 1))
    axes.append(axes.pop(dimension + 1))
    return op.Transpose(windows, perm=axes)


def _quantise(folder: Path) -> None:
    """Replace the ONNX graphs in a folder by ones with 8 bit."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in (TEXT, IMAGE):
        path = folder / f"{name}.onnx"
        whole = path.rename(path.with_suffix(".fp32"))
        with _quiet():
            quantize_dynamic(
                whole,
                path,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        whole.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporters say about themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
