"""`mini` still computes what it did, and trains as it did: a change of form proves itself here."""

import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent


@pytest.mark.parametrize("recipe", ["mini", "mini-baseline"])
def test_logits_and_losses(recipe):
    computed = runpy.run_path(str(HERE / "make.py"))["compute"](recipe)
    golden = {
        k: v
        for k, v in load_file(HERE / "mini_logits.safetensors").items()
        if k.startswith(f"{recipe}.")
    }
    assert set(golden) == set(computed)
    for name, value in golden.items():
        torch.testing.assert_close(
            computed[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert golden[f"{recipe}.losses"][0] > golden[f"{recipe}.losses"][-1]  # it trains
