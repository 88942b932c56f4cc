"""`torch.compile` and `torch.export` take the whole network.

They run in a second process, because the shape checks of the tests hinder both.
"""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path.insert(0, {here!r})
import torch
from small_network import small_config, stir, unit_text
from disa.model.disa import Disa

torch.manual_seed(0)
model = Disa(small_config("mini", refine_levels=1, **{changes}))
stir(model)
model.eval()
pixels, embeddings = torch.rand(1, 3, 48, 40) * 255, unit_text({labels})
with torch.no_grad():
    expected = model(pixels, embeddings)
    {run}
    for name, ours, theirs in zip(expected._fields, found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, msg=name)
print("equal")
"""
COMPILE = 'found = torch.compile(model, fullgraph=True, backend="aot_eager")(pixels, embeddings)'
EXPORT = "found = torch.export.export(model, (pixels, embeddings)).module()(pixels, embeddings)"


def run(command: str, labels: int, **changes: object) -> None:
    here = str(Path(__file__).parents[1])
    program = PROGRAM.format(here=here, changes=changes, labels=labels, run=command)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.endswith("equal\n"), done.stderr[-3000:]


@pytest.mark.slow
def test_compile_in_one_graph():
    run(COMPILE, labels=3)


@pytest.mark.slow
def test_export():
    run(EXPORT, labels=3)


@pytest.mark.slow
def test_export_beyond_the_most_labels():
    run(EXPORT, labels=5, max_categories=3)
