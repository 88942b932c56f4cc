"""docs/tour.ipynb runs from top to bottom and is stored without what it printed."""

import json
import os
import sys
from pathlib import Path

import pytest
from pages import ROOT

TOUR = ROOT / "docs/tour.ipynb"


def test_no_output_is_stored():
    cells = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    for cell in code:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import nbformat
    from nbclient import NotebookClient

    # The kernel finds the command and the package that are tested.
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", scripts, prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    notebook = nbformat.read(TOUR, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()

    kinds = {
        cell["id"]: {kind for output in cell["outputs"] for kind in output.get("data", ())}
        for cell in notebook.cells
        if cell["cell_type"] == "code"
    }
    pictures = {name for name, found in kinds.items() if "image/png" in found}
    assert pictures == {"load", "mask", "overlay", "saliency", "session", "boundary"}
    annotations = json.loads((tmp_path / "scene.json").read_text())["annotations"]
    assert sum(each["area"] for each in annotations) == 384 * 384
