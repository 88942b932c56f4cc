"""From pictures and labels to segmentations: the model with everything around it.

The model sees views of one size per batch and no labels; what belongs to a call stays in the call.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike, fspath
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import HfApi
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from disa.data.images import Pixels, parse_reading, read_image
from disa.errors import DisaError
from disa.inference.answer import Answer, segmentation
from disa.inference.gate import Gate, gate_of
from disa.inference.labels import FOREGROUND
from disa.inference.memory import parse_memory
from disa.inference.passes import Passes, joined, part_of, size_of
from disa.inference.protocol import Layout, Protocol
from disa.inference.request import Query, parse_query
from disa.inference.segmentation import NO_THINGS, Segmentation
from disa.inference.text import TextEncoder
from disa.inference.text_store import TextStore
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.model.encoders import encoder_config
from disa.model.few import at_most
from disa.running.devices import choose_device, own_numbers
from disa.running.files import MAX_PIXELS, at_home, cache_folder
from disa.weights.exported import ExportedModel, network_of
from disa.weights.load import load as load_weights
from disa.weights.model_folder import save


class Segmenter:
    """Give every pixel one of the labels of a call. Made by `disa.load`."""

    def __init__(
        self,
        model: Disa | DenseClip | ExportedModel,
        tokenizer: Tokenizer,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        max_memory: int | str | None = None,
    ) -> None:
        self.model = model.to(device=device, dtype=dtype).eval()
        self.device = device
        self.dtype = dtype
        self.max_memory = parse_memory(max_memory)  # bytes above the loaded model
        clip = encoder_config(self.model.config.backbone_clip)
        self.vision_width: int = clip.vision_config.hidden_size
        self.passes = Passes(self.model, device, dtype, self.vision_width)
        self.text = TextEncoder(self.model, tokenizer)

    def __call__(  # noqa: PLR0913 (how to look, how to read)
        self,
        image: Any,
        labels: str | Sequence[str] | Query,
        *,
        protocol: str = "whole",
        size: int | None = None,
        overlap: int | float = 1 / 3,
        max_pixels: int = MAX_PIXELS,
        bands: str | Sequence[int] | None = None,
        stretch: bool = False,
        **options: Any,
    ) -> Any:
        """Segment one image, or a list of images of any sizes, by the labels of this call.

        image: path, PIL image, array or tensor (`images.read_image`), or a list of them; a list is
        answered by a list in its order, anything else by one `Segmentation`.
        labels: "house, boat|ship, sea" or a list, `|` between synonyms; or a parsed `Query`, which
        holds all other options.
        protocol: "whole", the picture in one view; "windows", sliding windows of the model's own
        size, for large pictures; "cat-seg", the baseline's published protocol.
        size: pixels of the picture's short side; more shows finer detail and takes longer. By
        default the model's own with "whole", the picture's with "windows".
        overlap: share of a window's side that it shares with the next one, with "windows".
        max_pixels: files with more are refused before they are decoded.
        bands: which bands of a TIFF, an array (H, W, C) or a tensor (C, H, W) are red, green and
        blue (or the only one), counted from 1: "4,3,2" or (4, 3, 2).
        stretch: the darkest value of each picture becomes black, the brightest white.
        options: `scores`, `background`, `templates`, `gate` (`request.parse_query`). Raises
        `DisaError` for input that is none of these. To ask one picture for several sets of labels,
        `open` it.
        """
        query = labels
        if not isinstance(query, Query):
            shown = Protocol(protocol, size, overlap)
            query = parse_query(query, protocol=shown, **options)
        reading = parse_reading(max_pixels, bands, stretch)
        text = self.embed(query)

        several = isinstance(image, (list, tuple))
        sources = list(image) if several else [image]
        pictures = [read_image(source, reading) for source in sources]
        results: dict[int, Segmentation] = {}
        with self._computing():
            for index, answer in self._answers(pictures, text, query.protocol, gate_of(query)):
                result = segmentation(answer, pictures[index], query)
                results[index] = replace(result, source=_file_name(sources[index]))
        ordered = [results[index] for index in range(len(pictures))]
        return ordered if several else ordered[0]

    def open(
        self,
        image: Any,
        *,
        protocol: str | Protocol = "whole",
        size: int | None = None,
        overlap: int | float = 1 / 3,
        max_pixels: int = MAX_PIXELS,
        bands: str | Sequence[int] | None = None,
        stretch: bool = False,
    ) -> Any:
        """Look at one image, or a list of them, to be asked for labels as often as one likes.

        All that no label changes is computed here and kept. The arguments are those of a call, and
        a list is answered by a list of `Session`s: its pictures of one view go through the model
        together. Raises `DisaError` for an image that cannot be read, and for a size that the model
        cannot do.
        """
        shown = protocol
        if not isinstance(shown, Protocol):
            shown = Protocol(shown, size, overlap)
        several = isinstance(image, (list, tuple))
        sources = list(image) if several else [image]
        reading = parse_reading(max_pixels, bands, stretch)
        pictures = [read_image(source, reading) for source in sources]
        sessions: dict[int, Session] = {}
        with self._computing():
            layouts = [self.layout(shown, picture) for picture in pictures]
            for layout, group in self.passes.groups(layouts):
                group_pictures = [pictures[index] for index in group]
                looks = list(self.passes.looks(group_pictures, layout, shown))
                for row, index in enumerate(group):
                    own = looks
                    if len(group) > 1:
                        # A copy: a part of the batch would keep all of it in memory.
                        own = [joined([part_of(looks[0], slice(row, row + 1))])]
                    name = _file_name(sources[index])
                    sessions[index] = Session(self, pictures[index], name, shown, layout, own)
        ordered = [sessions[index] for index in range(len(pictures))]
        return ordered if several else ordered[0]

    def ask(self, sessions: Sequence["Session"], query: Query) -> list[Segmentation]:
        """Segment opened pictures by the same labels; those of one view go through together.

        Raises `DisaError` for a picture that was opened for another protocol than the query's, and
        for labels that the model cannot read.
        """
        for session in sessions:
            if session.protocol != query.protocol:
                raise DisaError(
                    f"the picture was opened for {session.protocol}, not {query.protocol}"
                )
        text = self.embed(query)
        gate = gate_of(query)
        results: dict[int, Segmentation] = {}
        with self._computing():
            layouts = [session.layout for session in sessions]
            for layout, group in self.passes.groups(layouts, len(text), gate):
                looks = sessions[group[0]].looks
                if len(group) > 1:
                    looks = [joined([sessions[index].looks[0] for index in group])]
                answer = self.passes.answer(layout, looks, text, gate)
                for index, own in zip(group, answer.by_picture(), strict=True):
                    session = sessions[index]
                    result = segmentation(own, session.picture, query)
                    results[index] = replace(result, source=session.source)
        return [results[index] for index in range(len(sessions))]

    def embed(self, query: Query) -> Float[Tensor, "t p d"]:
        """Embed the labels of a query and those of its background, kept for the next call.

        Raises `DisaError` for what suits no picture: a background or a size that the model cannot
        do, a label that is too long.
        """
        config = self.model.config
        if query.background == FOREGROUND and not config.things:
            raise DisaError(NO_THINGS)
        side = self.model.config.backbone_image_size
        query.protocol.layout(side, side, side, self.model.patch_size)
        with self._computing():
            return self.text(query.all_labels, query.templates)

    def best_labels(
        self,
        picture: Pixels,
        text: Float[Tensor, "t p d"],
        protocol: Protocol,
        gate: int | None = None,
    ) -> Int[Tensor, "H W"]:
        """Return the index of the likeliest embedding at every pixel, among the gate's."""
        gated = Gate(gate, len(text))
        with torch.inference_mode(), at_most(self.max_memory):
            _, answer = next(self._answers([picture], text, protocol, gated))
            return answer.best_label(picture.shape[:2])[0]

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write a folder that `load` reads. Raises `DisaError` if it cannot be written."""
        save(network_of(self.model), at_home(folder), tokenizer=self.text.tokenizer)

    def push_to_hub(
        self, repository: str, *, private: bool | None = None, token: str | None = None
    ) -> str:
        """Upload model, tokenizer and model card to "owner/name"; return the commit's URL.

        The repository is made if need be, and `load("owner/name")` gets them back. Needs
        `hf auth login`, or a token.
        """
        api = HfApi(token=token)
        repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Upload by disa"
            )
            return str(commit)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Compute in the segmenter's own numbers, within its memory."""
        with own_numbers(self.device), at_most(self.max_memory):
            yield

    def _answers(
        self,
        pictures: Sequence[Pixels],
        text: Float[Tensor, "t p d"],
        protocol: Protocol,
        gate: Gate,
    ) -> Iterator[tuple[int, Answer]]:
        """Yield each picture's index and answer; pictures of one view go through together."""
        layouts = [self.layout(protocol, picture) for picture in pictures]
        for layout, group in self.passes.groups(layouts, len(text), gate):
            # Views are made when the model asks for them: not all are held at once.
            looks = self.passes.looks([pictures[index] for index in group], layout, protocol)
            answer = self.passes.answer(layout, looks, text, gate)
            yield from zip(group, answer.by_picture(), strict=True)

    def layout(self, protocol: Protocol, picture: Pixels) -> Layout:
        """Return how a picture is shown."""
        return self.passes.layout(protocol, picture)


@dataclass(eq=False, repr=False)
class Session:
    """One picture that a model has looked at. Made by `Segmenter.open`."""

    segmenter: Segmenter
    picture: Pixels
    source: str | None
    protocol: Protocol
    layout: Layout
    looks: list[Any]

    def __call__(self, labels: str | Sequence[str] | Query, **options: Any) -> Segmentation:
        """Segment the picture by these labels, as a call of the segmenter does.

        labels: as there, or a parsed `Query`, whose protocol must be the session's. options:
        `scores`, `background`, `templates`, `gate` (`request.parse_query`). Raises `DisaError` for
        labels and options that make no sense.
        """
        query = labels
        if not isinstance(query, Query):
            query = parse_query(query, protocol=self.protocol, **options)
        return self.segmenter.ask([self], query)[0]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the picture and what the model saw in it take."""
        return self.picture.nbytes + sum(map(size_of, self.looks))


def load(
    name_or_folder: str | PathLike[str] = "mini",
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    max_memory: int | str | None = None,
) -> Segmenter:
    """Return a segmenter for a model, whatever it is given by.

    A bundled model ("mini"); a folder that disa wrote, an export as well; published weights
    ("cat-seg-b", "cat-seg-l"), fetched and converted on first use; or CLIP alone, without training:
    "clip-vit-b-16" and the like, a transformers folder, a Hub id, or OpenAI's .pt file. device:
    "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps". dtype: 32 bit unless given,
    whatever the file holds. max_memory: what a call may take above the loaded model, about: bytes,
    or "500MB"; a call that needs more at once is refused. Its picture and results come on top.
    Raises `DisaError` for an unknown model, a damaged or foreign file, a Hub that cannot be
    reached, and a device that is not there; an export runs on the CPU in fp32.
    """
    memory = parse_memory(max_memory)
    model, tokenizer = load_weights(name_or_folder)
    if isinstance(model, ExportedModel):
        return Segmenter(model, tokenizer, model.device(device), dtype, memory)
    segmenter = Segmenter(model, tokenizer, choose_device(device), dtype, memory)
    segmenter.text.store = TextStore(cache_folder() / "text", model, tokenizer)
    return segmenter


def _file_name(source: object) -> str | None:
    return fspath(source) if isinstance(source, (str, PathLike)) else None
