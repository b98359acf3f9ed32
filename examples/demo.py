"""Load the bundled archives, or those in a folder: ``python examples/demo.py [FOLDER]``.

Prints splits, features and a few examples, and draws ``contact_sheet.png`` of 32 images with their
class names to the current folder. The archives in FOLDER, or in the folder that the environment
variable ``IMAGENET2012_DIR`` names, are read in place: nothing is copied.
"""

import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import datasets
from datasets.exceptions import NonMatchingSplitsSizesError

import imagenet2012
from imagenet2012 import sheet

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "dummy" / "default" / imagenet2012.__version__ / "dummy_data.zip"


def load(folder: str) -> datasets.DatasetDict:
    """Load the archives in a folder in place; a subset, which the checks refuse, without them."""
    try:
        return imagenet2012.load(folder, "in_place")
    except (imagenet2012.ArchiveError, NonMatchingSplitsSizesError) as error:
        loaded = imagenet2012.load(folder, "in_place", verification_mode="no_checks")
        print(
            f"Not the original archives: {str(error).splitlines()[0]}\nGoing on without checks.\n"
        )
        return loaded


@contextmanager
def loaded_archives() -> Iterator[datasets.DatasetDict]:
    """Yield the user's archives, read in place, or our own, prepared in a folder that goes away."""
    if given := "".join(sys.argv[1:2]) or os.environ.get("IMAGENET2012_DIR"):
        yield load(given)
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(BUNDLED) as bundled:
        bundled.extractall(folder)
        print("No folder was given: these are the bundled archives, whose images are drawn.\n")
        options = {"cache_dir": f"{folder}/cache", "verification_mode": "no_checks"}
        yield imagenet2012.load(f"{folder}/dummy_data", **options)


def main() -> None:
    """Load, print and draw."""
    with loaded_archives() as loaded:
        print(loaded, end="\n\n")
        split = "validation" if "validation" in loaded else next(iter(loaded))
        dataset = loaded[split]
        for name in ("file_name", "image"):
            print(f"{name:<10} {dataset.features[name]}")
        label = dataset.features["label"]
        print(f"label      ClassLabel of {label.num_classes}: {'; '.join(label.names[:3])}; …\n")
        for row in islice(dataset, 4):
            words = label.int2str(row["label"]) if row["label"] >= 0 else "not public"
            print(f"{row['file_name']}  {row['image'].size}  {row['label']:>3}  {words}")
        target = Path("contact_sheet.png")
        sheet.draw(islice(dataset.shuffle(seed=0), 32), label.names).save(target)
        print(f"\nA contact sheet of {split} images: {target}")


if __name__ == "__main__":
    datasets.disable_progress_bars()
    try:
        main()
    except (imagenet2012.ArchiveError, OSError, datasets.exceptions.ManualDownloadError) as error:
        sys.exit(str(error))
