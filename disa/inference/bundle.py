"""From a model's name, folder, file or Hub id to a segmenter: "mini" -> Segmenter."""

from os import PathLike

import torch

from disa.errors import DisaError
from disa.inference.catalogue import model_folder
from disa.inference.segmenter import Segmenter
from disa.inference.text import load_tokenizer, tokenizer_beside
from disa.model.clip_files import is_clip_folder
from disa.model.dense import DenseClip
from disa.model.disa import Disa


def load(
    name_or_folder: str | PathLike[str] = "mini",
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
) -> Segmenter:
    """Return a segmenter for a model, whatever it is given by.

    A bundled model ("mini"); a folder that disa wrote; published weights ("cat-seg-b", "cat-seg-l"), fetched and
    converted on first use; or CLIP alone, without training: "clip-vit-b-16" and the like, a transformers folder, a Hub
    id, or OpenAI's .pt file. device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps". dtype: fp32
    unless given, whatever the file holds. Raises `DisaError` for an unknown model, a damaged or foreign file, a Hub
    that cannot be reached, and a device that is not there.
    """
    path = model_folder(name_or_folder)
    where = choose_device(device)
    alone = path.is_file() or is_clip_folder(path)
    model = DenseClip.from_clip(path) if alone else Disa.from_pretrained(path)
    text = model.backbone.clip.config.text_config
    tokenizer = tokenizer_beside(path) if path.is_file() else path / "tokenizer.json"
    return Segmenter(model, load_tokenizer(tokenizer, text.eos_token_id, text.vocab_size), where, dtype)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device of that name; "auto" takes the fastest there is. Raises `DisaError` if it is not there."""
    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    there += (["mps"] if torch.backends.mps.is_available() else []) + ["cpu"]
    name = str(device)
    if name == "auto":
        return torch.device(there[0])
    full_name = "cuda:0" if name == "cuda" else name
    if full_name not in there:
        raise DisaError(f'the device "{name}" is not available here; use {", ".join(there)} or auto')
    return torch.device(full_name)
