"""Activations that are computed again: the same gradients from less memory."""

import pytest
import torch
from small_network import small_config, stir, unit_text
from torch import Tensor, nn

from disa.model.disa import Disa
from disa.training.learner import checkpoint_activations


def build(recipe: str) -> Disa:
    torch.manual_seed(0)
    model = Disa(small_config(recipe, backbone_finetune="full"))
    stir(model)
    return model.train()


def gradients(model: Disa, pixels: Tensor) -> tuple[dict[str, Tensor | None], int]:
    """Return every parameter's gradient, and the bytes that autograd keeps for them."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.arange(5 * 8).reshape(5, 8) % 38
    ids[:, -1] = 39
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(pixels, model.encode_text(ids)[:, None]).logits
    kept = sum(storages.values())
    logits.square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, kept


@pytest.mark.parametrize("recipe", ["mini", "mini-baseline"])
def test_the_same_gradients_from_less_memory(recipe: str) -> None:
    pixels = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1)) * 255
    expected, plain = gradients(build(recipe), pixels)
    model = build(recipe)
    checkpoint_activations(model)
    found, less = gradients(model, pixels)
    assert less < plain / 2
    for name, gradient in expected.items():
        if gradient is not None:
            assert found[name] is not None
            assert torch.equal(found[name], gradient), name


def test_names_and_evaluation_do_not_change() -> None:
    plain = build("mini").eval()
    wrapped: nn.Module = build("mini").eval()
    checkpoint_activations(wrapped)
    assert list(wrapped.state_dict()) == list(plain.state_dict())
    pixels = torch.full((1, 3, 48, 48), 100.0)
    with torch.no_grad():
        assert torch.equal(wrapped(pixels, unit_text(3)).logits, plain(pixels, unit_text(3)).logits)
