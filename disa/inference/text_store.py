"""Embeddings of large vocabularies on disk: the same words need no second look by any process."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from disa.errors import DisaError
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.running.drafts import remove_abandoned
from disa.running.files import replace_file
from disa.weights.tensor_files import read_safetensors

LEAST = 64  # labels; fewer are embedded in less time than the weights are read in
NAME = "embeddings"


@dataclass(frozen=True, eq=False, repr=False)
class TextStore:
    """A folder with a file for each list of labels that a model was asked for.

    Its name is a checksum of everything that an embedding depends on: the text tower's weights and
    their type, the tokenizer, the prompts and the labels.
    """

    folder: Path
    model: Disa | DenseClip
    tokenizer: Tokenizer

    def load(
        self, labels: Sequence[str], prompts: Sequence[str], like: Float[Tensor, "t p d"]
    ) -> Float[Tensor, "t p d"] | None:
        """Return what was kept, as `like` is shaped; None if there is nothing whole."""
        path = self._path(labels, prompts)
        if not path.is_file():
            return None
        try:
            return read_safetensors(path, {NAME: like})[NAME]
        except DisaError:  # of another version, or damaged: computed anew, it replaces this one
            return None

    def save(
        self, labels: Sequence[str], prompts: Sequence[str], embeddings: Float[Tensor, "t p d"]
    ) -> None:
        """Keep embeddings. A disk that refuses costs the next process some time, no more."""
        path = self._path(labels, prompts)
        tensors = {NAME: embeddings.detach().cpu().contiguous()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path.parent)
            replace_file(path, lambda draft: save_file(tensors, draft))
        except OSError:
            return

    def forget(self) -> None:
        """Read the weights again before the next use."""
        self.__dict__.pop("_model_sha256", None)

    def _path(self, labels: Sequence[str], prompts: Sequence[str]) -> Path:
        name = hashlib.sha256(self._model_sha256.encode())
        for text in (*prompts, "", *labels):
            name.update(f"{len(text)} {text}".encode())
        return self.folder / f"{name.hexdigest()}.safetensors"

    @cached_property
    def _model_sha256(self) -> str:
        sha256 = hashlib.sha256(self.tokenizer.to_str().encode())
        for name, value in self.model.backbone.clip.state_dict().items():
            if name.startswith("text_"):
                sha256.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                sha256.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
        return sha256.hexdigest()
