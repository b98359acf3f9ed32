"""Make the bundled archives: ``python scripts/make_dummy.py``.

``dummy/default/5.0.0/dummy_data.zip`` holds, under ``dummy_data/``, archives of the true structure
with drawn images: training with all 1000 class tars and every odd kind of image that the original
has, 100 validation and 20 test images.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import fakes  # noqa: E402

TARGET = ROOT / "dummy" / "default" / "5.0.0" / "dummy_data.zip"


def validation_members() -> list[tuple[str, bytes]]:
    """Return larger pictures, some of them gray or turned by EXIF, each drawn by itself."""
    members = []
    for index, (name, _) in enumerate(fakes.flat_images("val", 100, seed=1)):
        size = (160, 120) if index % 3 else (120, 160)
        if index % 25 == 7:
            data = fakes.jpeg(100 + index, name, "L", size)
        elif index % 25 == 13:
            data = fakes.rotated(100 + index, name, size)
        else:
            data = fakes.jpeg(100 + index, name, size=size)
        members.append((name, data))
    return members


def main() -> None:
    """Write the zip; the same bytes every time, with the same Pillow."""
    with tempfile.TemporaryDirectory() as folder:
        fakes.make_archives(Path(folder), classes=1000, per_class=1, validation=0, test=20)
        (Path(folder) / "ILSVRC2012_img_val.tar").write_bytes(fakes.tar(validation_members()))
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).iterdir()):
                entry = zipfile.ZipInfo(f"dummy_data/{path.name}", (2012, 6, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
