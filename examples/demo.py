"""Load the bundled archives, or those in a folder: ``python examples/demo.py [FOLDER]``.

Prints splits, features and a few examples, and draws ``contact_sheet.png`` of 32 images with their
class names. The archives in FOLDER are read in place: nothing is copied.
"""

import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets

import imagenet2012
from imagenet2012 import sheet

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "dummy" / "default" / imagenet2012.__version__ / "dummy_data.zip"


@contextmanager
def archives() -> Iterator[tuple[str, str, str]]:
    """Yield folder, configuration and verification mode for the user's archives or our own."""
    if len(sys.argv) > 1 and sys.argv[1]:
        yield sys.argv[1], "in_place", "basic_checks"
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(BUNDLED) as bundled:
        bundled.extractall(folder)
        print("No DATA_DIR: these are the bundled archives, small and drawn.\n")
        yield f"{folder}/dummy_data", "default", "no_checks"


def main() -> None:
    """Load, print and draw."""
    with archives() as (folder, config, mode), tempfile.TemporaryDirectory() as cache:
        options = {"verification_mode": mode}
        if config == "default":
            options["cache_dir"] = cache
        loaded = imagenet2012.load(folder, config, **options)
        print(loaded, end="\n\n")
        split = "validation" if "validation" in loaded else next(iter(loaded))
        dataset = loaded[split]
        for name in ("file_name", "image"):
            print(f"{name:<10} {dataset.features[name]}")
        label = dataset.features["label"]
        print(f"label      ClassLabel of {label.num_classes}: {'; '.join(label.names[:3])}; …\n")
        for row in dataset.select(range(4)):
            words = label.int2str(row["label"]) if row["label"] >= 0 else "not public"
            print(f"{row['file_name']}  {row['image'].size}  {row['label']:>3}  {words}")
        target = ROOT / "contact_sheet.png"
        some = dataset.shuffle(seed=0).select(range(min(32, len(dataset))))
        sheet.draw(some, label.names).save(target)
        print(f"\nA contact sheet of {split} images: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    datasets.disable_progress_bars()
    try:
        main()
    except (imagenet2012.ArchiveError, datasets.exceptions.ManualDownloadError) as error:
        sys.exit(str(error))
