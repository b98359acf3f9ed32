"""The notebook runs from its first cell to its last on the bundled archives."""

import os
import sys
from pathlib import Path

import fakes
import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("matplotlib")
NOTEBOOK = ROOT / "examples" / "explore.ipynb"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))


def run() -> str:
    """Return all that the cells gave."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, resources=where).execute()
    return "".join(str(cell.get("outputs", "")) for cell in notebook.cells)


def test_notebook() -> None:
    text = run()
    for words in ("num_rows: 1000", "tench, Tinca tinca", "comes as RGB", "pixels (32, 64, 64, 3)"):
        assert words in text


@pytest.mark.parametrize("sizes", [(0, 0, 4), (1, 3, 0)])
def test_it_takes_a_subset(
    sizes: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make_archives(tmp_path / "subset", *sizes)
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path / "subset"))
    text = run()
    assert "Not the original archives" in text
    assert "pixels" in text


def test_it_is_stored_with_its_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert str(code).count("image/png") >= 5 and "output_type': 'error" not in str(code)
