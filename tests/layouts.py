"""The images of archives, extracted in the ways in which people have them."""

import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import fakes

Layout = Callable[[Path, Path], Path]
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TEST = "ILSVRC2012_img_test_v10102019.tar"


def extract(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "xf", archive, "-C", folder], check=True)


def in_class_folders(files: Iterable[Path]) -> None:
    """Move validation images into class folders."""
    for file in list(files):
        folder = file.with_name(fakes.wnids()[fakes.validation_label(int(file.stem[-8:]))])
        folder.mkdir(exist_ok=True)
        file.rename(folder / file.name)


def flat(archives: Path, folder: Path) -> Path:
    """Extract all in class folders, validation and test images beside each other."""
    extract(archives / TRAIN, folder / "train")
    for tar in (folder / "train").glob("*.tar"):
        extract(tar, tar.with_suffix(""))
        tar.unlink()
    extract(archives / VAL, folder / "val")
    extract(archives / TEST, folder)  # its members are in a folder test/
    return folder


def class_folders(archives: Path, folder: Path) -> Path:
    """As torchvision does."""
    in_class_folders((flat(archives, folder) / "val").iterdir())
    return folder


def half_sorted(archives: Path, folder: Path) -> Path:
    """A script that moves the validation images into class folders, ended in the middle."""
    in_class_folders(sorted((flat(archives, folder) / "val").iterdir())[1::2])
    return folder


def kaggle(archives: Path, folder: Path) -> Path:
    flat(archives, folder / "ILSVRC/Data/CLS-LOC")
    (folder / "ILSVRC/ImageSets").mkdir()
    return folder


def class_tars(archives: Path, folder: Path) -> Path:
    """Beside the other archives, which are read as they are."""
    extract(archives / TRAIN, folder / "train")
    for name in (VAL, TEST):
        (folder / name).symlink_to(archives / name)
    return folder


def half_extracted(archives: Path, folder: Path) -> Path:
    """A script that extracts class tars one by one, ended in the middle of the sixth."""
    class_tars(archives, folder)
    tars = sorted((folder / "train").glob("*.tar"))[:6]
    for tar in tars:
        extract(tar, folder / "train" / tar.stem)
    for tar in tars[:5]:
        tar.unlink()
    next((folder / "train" / tars[5].stem).iterdir()).unlink()
    return folder


def links(archives: Path, folder: Path) -> Path:
    """A tree of links to another one."""
    real = flat(archives, folder / "real")
    for file in list(real.rglob("*.JPEG")):
        link = folder / "links" / file.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return folder / "links"


def copied(archives: Path, folder: Path) -> Path:
    """The archives themselves."""
    shutil.copytree(archives, folder)
    return folder
