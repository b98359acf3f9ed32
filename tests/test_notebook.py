"""The notebook runs from its first cell to its last on the bundled archives."""

import os
import sys
from pathlib import Path
from typing import Any

import datasets
import fakes
import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("matplotlib")
PATH = ROOT / "examples" / "explore.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]


def test_it_is_stored_with_its_outputs() -> None:
    assert all(cell.execution_count for cell in CODE)
    assert str(CODE).count("image/png") >= 5 and "output_type': 'error" not in str(CODE)


def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    notebook = nbformat.from_dict(NOTEBOOK)
    where = {"metadata": {"path": str(PATH.parent)}}
    nbclient.NotebookClient(notebook, resources=where).execute()
    text = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    for words in ("num_rows: 1000", "tench, Tinca tinca", "comes as RGB", "pixels (32, 64, 64, 3)"):
        assert words in text


@pytest.mark.parametrize("sizes", [(0, 0, 4), (1, 3, 0)])
def test_it_takes_a_subset(sizes: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """Its cells, as one program."""
    fakes.make_archives(tmp_path / "subset", *sizes)
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path / "subset"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    exec("\n".join(cell.source for cell in CODE), {})
    text = capsys.readouterr().out
    assert "Not the original archives" in text and "pixels" in text
