"""A model as two graphs, which run without its weights and without the network's code.

`disa export` writes them: texts -> embeddings, and pixels and embeddings -> what the network says.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.dense import DenseClip
from disa.model.disa import Disa, Prediction
from disa.model.encoders import encoder_config
from disa.running.extras import imported
from disa.running.reading import read_json
from disa.weights.model_folder import read_config
from disa.weights.names import CONFIG
from disa.weights.tensor_files import first_line

TEXT = "text"
IMAGE = "image"
ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}
AGAIN = "export the model again"


class Graphs(TypedDict):
    """What an export's configuration says of its graphs."""

    runtime: Literal["onnx", "torch"]
    # Fields of `Prediction`.
    outputs: list[Literal["logits", "saliency", "matched", "foreground", "things", "chosen"]]


# From tensors to tensors, in the order of the graph's inputs and outputs.
Graph = Callable[..., Sequence[Tensor]]


class ExportedModel:
    """Two graphs that answer as the network does, on the CPU and in 32 bit.

    The number of images and labels, and the size of the images, are free. `look` computes nothing,
    since one graph holds the whole way from pixels to logits.
    """

    def __init__(
        self, config: ModelConfig, text: Graph, image: Graph, outputs: Sequence[str]
    ) -> None:
        """Take the graphs; `outputs` names the fields of `Prediction` that `image` returns."""
        self.config = config
        self.text = text
        self.image = image
        self.outputs = outputs
        # Pixels per side of a patch.
        self.patch_size: int = encoder_config(config.backbone_clip).vision_config.patch_size

    def __call__(
        self, pixels: Float[Tensor, "b 3 H W"], text: Float[Tensor, "t p d"]
    ) -> Prediction:
        """Return what the network says, as `Disa` does."""
        found = self.answer(self.look(pixels), text)
        return found.whole(len(text), self.config.dropped_logit)

    def look(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """Return the pixels. Raises `DisaError` if a side is not a multiple of the patch."""
        height, width = pixels.shape[2:]
        if height % self.patch_size or width % self.patch_size:
            raise DisaError(
                f"image of {width} x {height} pixels: both sides must be multiples of the patch, "
                f"{self.patch_size}"
            )
        return pixels

    def answer(self, look: Float[Tensor, "b 3 H W"], text: Float[Tensor, "t p d"]) -> Prediction:
        """Return what the images say to these labels, which go through the graph all at once."""
        found = dict(zip(self.outputs, self.image(look, text), strict=True))
        everything = len(text) <= self.config.max_categories
        return Prediction(
            found["logits"],
            found.get("saliency"),
            found.get("matched"),
            found.get("foreground"),
            found.get("things"),
            None if everything else found.get("chosen"),
        )

    def presence(self, look: Tensor, text: Float[Tensor, "t p d"]) -> Float[Tensor, "b t"]:
        """Raise `DisaError`: the graphs do not give it."""
        raise DisaError("an export has no gate; leave out the gate, or use the model's own folder")

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return one L2-normalised embedding per row of token ids."""
        return self.text(ids)[0]

    def device(self, wanted: str | torch.device) -> torch.device:
        """Return the CPU. Raises `DisaError` if another device is wanted."""
        if str(wanted) not in ("auto", "cpu"):
            raise DisaError(f"an export runs on the CPU, not on {wanted}; choose cpu or auto")
        return torch.device("cpu")

    def to(self, device: torch.device, dtype: torch.dtype) -> "ExportedModel":
        """Return itself. Raises `DisaError` for anything but the CPU and 32 bit."""
        self.device(device)
        if dtype != torch.float32:
            raise DisaError(f"an export runs as it was written, not in {dtype}; leave out dtype")
        return self

    def eval(self) -> "ExportedModel":
        """Return itself: there is no other mode."""
        return self


def network_of(model: Disa | DenseClip | ExportedModel) -> Disa | DenseClip:
    """Return the network. Raises `DisaError` for an export: it has no parts and no weights."""
    if isinstance(model, ExportedModel):
        raise DisaError("this is an export, whose network is not there; use the model's own folder")
    return model


def load_exported(folder: Path) -> ExportedModel:
    """Return the model that `disa export` wrote.

    Raises `DisaError` for a missing or damaged file, for graphs that do not give what the
    configuration says, and if onnxruntime is missing.
    """
    config = read_config(folder)
    data: Graphs = read_json(folder / CONFIG, AGAIN, Graphs)
    ending = ENDINGS[data["runtime"]]
    text, image = (read_graph(folder / f"{name}{ending}") for name in (TEXT, IMAGE))
    model = ExportedModel(config, text, image, data["outputs"])
    _try_out(folder / CONFIG, model)
    return model


@torch.inference_mode()
def _try_out(path: Path, model: ExportedModel) -> None:
    """Ask the graphs about a small image: what they give must be what the configuration says.

    Raises `DisaError` that names `path`, the configuration.
    """
    patch = model.patch_size
    rows, columns, labels = 2, 3, 2
    expected = _shapes(model.config, patch, rows, columns, labels)
    try:
        text = model.encode_text(torch.zeros(labels, 2, dtype=torch.long))
        prompts = text[:, None].repeat(1, len(model.config.backbone_templates), 1)
        outputs = model.image(torch.zeros(1, 3, patch * rows, patch * columns), prompts)
        found = [tuple(output.shape) for output in outputs]
    except Exception as error:  # both runtimes raise many kinds
        raise DisaError(f"{path}: its graphs do not run ({first_line(error)}); {AGAIN}") from None
    # The graph of a CLIP alone chooses no labels.
    if "chosen" not in model.outputs:
        del expected["chosen"]
    if [*model.outputs] != [*expected] or found != [*expected.values()]:
        raise DisaError(
            f"{path}: its graphs give {model.outputs} as {found}, expected {expected}; {AGAIN}"
        )


def _shapes(
    config: ModelConfig, patch: int, rows: int, columns: int, labels: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each output for one image of so many patches, in their order."""
    each = patch if config.decode_enlarge else 4
    pixels = (each * rows, each * columns)
    maps = (1, labels, rows, columns)
    shapes: dict[str, tuple[int, ...]] = {"logits": (1, labels, *pixels)}
    if config.disentangle:
        shapes |= {"saliency": maps, "matched": (1, labels), "foreground": maps}
    if config.things:
        shapes["things"] = (1, *pixels)
    shapes["chosen"] = (1, labels)
    return shapes


def read_graph(path: Path) -> Graph:
    """Return the graph in a file, ready to run. Raises `DisaError` if it cannot be read."""
    if not path.is_file():
        raise DisaError(f"{path}: no such file; copy the whole folder of the export")
    read = _read_onnx if path.suffix == ENDINGS["onnx"] else _read_torch
    try:
        return read(path)
    except DisaError:
        raise
    except Exception as error:  # both runtimes raise many kinds
        raise DisaError(f"{path}: no graph can be read ({first_line(error)}); {AGAIN}") from None


def _read_onnx(path: Path) -> Graph:
    runtime = imported("ONNX", "onnx", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(*values: Tensor) -> list[Tensor]:
        inputs = (value.numpy() for value in values)
        outputs = session.run(None, dict(zip(names, inputs, strict=True)))
        return [torch.from_numpy(output) for output in outputs]

    return run


def _read_torch(path: Path) -> Graph:
    # What the guards would refuse are sizes whose tensors lie otherwise in memory than the
    # example's; the export was compared with the network on such sizes.
    module = torch.export.load(path).module(check_guards=False)

    def run(*values: Tensor) -> list[Tensor]:
        return list(module(*values))

    return run
