"""`torch.compile` takes the whole network in one graph; test_export.py is about `torch.export`.

In a second process, because the shape checks of the tests hinder it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import torch
from small_network import small_config, stir, unit_text
from disa.model.disa import Disa

torch.manual_seed(0)
model = Disa(small_config("mini", refine_levels=1))
stir(model)
model.eval()
pixels, embeddings = torch.rand(1, 3, 48, 40) * 255, unit_text(3)
with torch.no_grad():
    expected = model(pixels, embeddings)
    found = torch.compile(model, fullgraph=True, backend="eager")(pixels, embeddings)
for name, ours, theirs in zip(expected._fields, found, expected, strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, msg=name)
print("equal")
"""


@pytest.mark.slow
def test_compile_in_one_graph():
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(here)!r})\n{PROGRAM}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.endswith("equal\n"), done.stderr[-3000:]
