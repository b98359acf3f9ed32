"""ILSVRC2012 (ImageNet-1k) for `datasets`, straight from the original archives.

Importing this makes the name known to ``datasets.load_dataset("imagenet2012")``, and the URLs of
images in place to `fsspec`. The loading script and the modules beside it lie in this package when
it is installed, and in the folder above it in a clone.
"""

import importlib.util
import sys
from pathlib import Path

_folder = Path(__file__).parent
if not (_folder / "imagenet2012.py").exists():
    # A clone. Python would take this folder for the script, as both have one name.
    __path__.append(str(_folder.parent))
    _spec = importlib.util.spec_from_file_location(
        f"{__name__}.imagenet2012", _folder.parent / "imagenet2012.py"
    )
    assert _spec and _spec.loader
    # Bound here, as an import would do: else workers get the builder by value, not by name.
    imagenet2012 = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(imagenet2012)

from imagenet2012.decoding import decode_image, read_images  # noqa: E402
from imagenet2012.ilsvrc2012 import VERSION, ArchiveError, read_labels  # noqa: E402
from imagenet2012.imagenet2012 import Imagenet2012, Imagenet2012Config  # noqa: E402
from imagenet2012.in_place import Imagenet2012FileSystem  # noqa: E402
from imagenet2012.load import load, register  # noqa: E402

__all__ = [
    "WNIDS",
    "ArchiveError",
    "Imagenet2012",
    "Imagenet2012Config",
    "Imagenet2012FileSystem",
    "decode_image",
    "load",
    "read_images",
]
__version__ = VERSION
WNIDS = read_labels().wnids
register()
