"""Use the installed package as a stranger would: ``python wheel.py REPOSITORY``."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

work = Path(tempfile.mkdtemp())
os.environ["HF_HOME"] = str(work / "home")

import datasets  # noqa: E402

import imagenet2012  # noqa: E402

repository = Path(sys.argv[1])
assert "site-packages" in imagenet2012.__file__, imagenet2012.__file__
tops = {Path(str(file)).parts[0] for file in metadata.files("imagenet2012") or []}
assert {t for t in tops if t != ".."} <= {
    "imagenet2012",
    "__pycache__",
    f"imagenet2012-{imagenet2012.__version__}.dist-info",
}, f"loose in site-packages: {tops}"

with zipfile.ZipFile(repository / "dummy" / "default" / "5.0.0" / "dummy_data.zip") as archive:
    archive.extractall(work)
for config in ("default", "in_place"):
    options = {"data_dir": str(work / "dummy_data"), "verification_mode": "no_checks"}
    loaded = datasets.load_dataset("imagenet2012", config, num_proc=2, **options)
    assert {split: d.num_rows for split, d in loaded.items()} == {
        "train": 1000,
        "validation": 100,
        "test": 20,
    }
    assert loaded["train"][0]["image"].mode == "RGB"

# The entry points: URLs in a process that does not import the package, and the command, twice.
stored = loaded["train"].cast_column("image", datasets.Image(decode=False))
code = "import fsspec, sys; print(len(fsspec.open(sys.argv[1]).open().read()) > 0)"
url = stored[0]["image"]["path"]
for command in (
    [sys.executable, "-c", code, url],
    [
        str(Path(sys.executable).parent / "imagenet2012"),
        "check",
        options["data_dir"],
        "--no-checks",
    ],
    [sys.executable, "-m", "imagenet2012", "check", options["data_dir"], "--no-checks"],
):
    subprocess.run(command, check=True)
# What HTTP needs is not among the dependencies, so all of this must work without it.
assert importlib.util.find_spec("aiohttp") is None
print(
    f"imagenet2012 {imagenet2012.__version__} works installed, on datasets {datasets.__version__}"
)
