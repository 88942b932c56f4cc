"""From a model's name or folder to a segmenter: "mini" -> Segmenter."""

from os import PathLike

import torch

from disa.errors import DisaError
from disa.inference.catalogue import model_folder
from disa.inference.segmenter import Segmenter
from disa.inference.text import load_tokenizer
from disa.model.disa import Disa


def load(
    name_or_folder: str | PathLike[str] = "mini", device: str = "auto", dtype: torch.dtype = torch.float32
) -> Segmenter:
    """Return a segmenter for a bundled model ("mini") or a folder with model.safetensors, config.json, tokenizer.json.

    device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps". dtype: fp32 unless given.
    Raises `DisaError` for an unknown model, a damaged or foreign file, and a device that is not there.
    """
    folder = model_folder(name_or_folder)
    where = choose_device(device)
    model = Disa.from_pretrained(folder)
    text = model.backbone.clip.config.text_config
    return Segmenter(model, load_tokenizer(folder, text.eos_token_id, text.vocab_size), where, dtype)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" takes the fastest there is. Raises `DisaError` if it is not there."""
    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    there += (["mps"] if torch.backends.mps.is_available() else []) + ["cpu"]
    if name == "auto":
        return torch.device(there[0])
    full_name = "cuda:0" if name == "cuda" else name
    if full_name not in there:
        raise DisaError(f'the device "{name}" is not available here; use {", ".join(there)} or auto')
    return torch.device(full_name)
