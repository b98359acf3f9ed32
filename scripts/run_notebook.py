"""Run the notebook and store it with its outputs: ``python scripts/run_notebook.py``."""

from pathlib import Path

import nbclient
import nbformat

path = Path(__file__).parent.parent / "examples" / "explore.ipynb"
notebook = nbformat.read(path, as_version=4)
nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}).execute()
for cell in notebook.cells:
    cell.metadata.pop("execution", None)  # times, which would change with every run
    if cell.cell_type == "code":  # warnings name files of this machine
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:  # Pillow shows each picture twice
            if "image/png" in output.get("data", {}):
                output.data.pop("image/jpeg", None)
nbformat.write(notebook, path)
