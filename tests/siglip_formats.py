"""A small SigLIP 2 with random weights, as transformers writes it into a folder."""

from pathlib import Path

import torch
from transformers import Siglip2Tokenizer, SiglipConfig, SiglipModel

WIDTH, LAYERS, PATCH, SIDE, CONTEXT = 32, 3, 8, 32, 48
# Gemma's first tokens; bytes and letters stand for the rest.
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
MERGES = [("a", "▁"), ("h", "o"), ("ho", "u"), ("hou", "s"), ("hous", "e"), ("s", "ea"), ("e", "a")]


def small_tokenizer() -> Siglip2Tokenizer:
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghijklmnopqrstuvwxyz"]
    pieces += ["".join(pair) for pair in MERGES]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return Siglip2Tokenizer(vocab=vocabulary, merges=MERGES)


def small_siglip() -> SiglipModel:
    """Return a SigLIP whose every tensor is random, norms and biases included."""
    torch.manual_seed(0)
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": 4,
        "num_hidden_layers": LAYERS,
    }
    # Like the published ones, the configuration says nothing of the tokenizer's special tokens.
    text = tower | {"vocab_size": 300, "max_position_embeddings": CONTEXT}
    vision = tower | {"patch_size": PATCH, "image_size": SIDE}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def write_siglip(folder: Path) -> SiglipModel:
    """Write a whole folder and return the model in it."""
    model = small_siglip()
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return model
