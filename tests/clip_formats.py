"""A small CLIP with random weights in the forms that people have on disk, written without disa."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

WIDTH, TEXT_WIDTH, PROJECTION, LAYERS, PATCH, SIDE = (
    128,
    64,
    32,
    3,
    8,
    32,
)  # heads of 64 channels, as OpenAI's
WORDS, CONTEXT = 40, 9


def small_clip(
    activation: str = "quick_gelu",
    words: int = WORDS,
    context: int = CONTEXT,
    patch: int = PATCH,
    side: int = SIDE,
) -> CLIPModel:
    """Return a CLIP whose every tensor is random, norms and biases included."""
    torch.manual_seed(0)
    tower = {"num_hidden_layers": LAYERS, "hidden_act": activation, "projection_dim": PROJECTION}
    text = {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_attention_heads": TEXT_WIDTH // 64,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": WIDTH // 64,
    }
    reads = {"vocab_size": words, "max_position_embeddings": context, "bos_token_id": words - 2}
    config = CLIPConfig(
        projection_dim=PROJECTION,
        text_config=tower | text | reads | {"eos_token_id": words - 1, "pad_token_id": 0},
        vision_config=tower | vision | {"patch_size": patch, "image_size": side},
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def openai_state(model: CLIPModel) -> dict[str, Tensor]:
    """Return the weights as OpenAI names them, one by one, with fused projections."""
    state: dict[str, Tensor] = {}

    def blocks(tower: Any, prefix: str) -> None:
        for index, layer in enumerate(tower.encoder.layers):
            attention, name = layer.self_attn, f"{prefix}transformer.resblocks.{index}."
            parts = (attention.q_proj, attention.k_proj, attention.v_proj)
            state[name + "attn.in_proj_weight"] = torch.cat([part.weight for part in parts])
            state[name + "attn.in_proj_bias"] = torch.cat([part.bias for part in parts])
            pairs = {
                "attn.out_proj": attention.out_proj,
                "ln_1": layer.layer_norm1,
                "ln_2": layer.layer_norm2,
            }
            for key, module in (
                pairs | {"mlp.c_fc": layer.mlp.fc1, "mlp.c_proj": layer.mlp.fc2}
            ).items():
                state[f"{name}{key}.weight"], state[f"{name}{key}.bias"] = (
                    module.weight,
                    module.bias,
                )

    vision, text = model.vision_model, model.text_model
    blocks(vision, "visual.")
    blocks(text, "")
    state["visual.class_embedding"] = vision.embeddings.class_embedding
    state["visual.conv1.weight"] = vision.embeddings.patch_embedding.weight
    state["visual.positional_embedding"] = vision.embeddings.position_embedding.weight
    for key, module in (
        ("visual.ln_pre", vision.pre_layrnorm),
        ("visual.ln_post", vision.post_layernorm),
    ):
        state[f"{key}.weight"], state[f"{key}.bias"] = module.weight, module.bias
    state["visual.proj"] = model.visual_projection.weight.t()
    state["token_embedding.weight"] = text.embeddings.token_embedding.weight
    state["positional_embedding"] = text.embeddings.position_embedding.weight
    state["ln_final.weight"], state["ln_final.bias"] = (
        text.final_layer_norm.weight,
        text.final_layer_norm.bias,
    )
    state["text_projection"] = model.text_projection.weight.t()
    state["logit_scale"] = model.logit_scale
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def write_folder(
    model: CLIPModel, folder: Path, form: str, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a transformers folder with weights in that form."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    state = {name: value.detach().to(dtype).clone() for name, value in model.state_dict().items()}
    if form == "safetensors":
        save_file(state, folder / "model.safetensors")
    elif form == "bin":
        context = model.config.text_config.max_position_embeddings
        old = {
            "text_model.embeddings.position_ids": torch.arange(context)[None]
        }  # as early versions saved it
        torch.save(state | old, folder / "pytorch_model.bin")
    else:
        names = sorted(state)
        halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, own in halves.items():
            save_file({name: state[name] for name in own}, folder / file)
        index = {"weight_map": {name: file for file, own in halves.items() for name in own}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
