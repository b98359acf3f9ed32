"""Extracted trees in every layout, and folders of class tars: the same rows as of the archives."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import pytest
from conftest import ROOT, Archives
from imagenet2012.ilsvrc2012 import CLASS_TAR, IMAGE_NAME, read_labels
from PIL import Image

import imagenet2012
from imagenet2012 import ArchiveError, splits, storage, tree_listing
from rows import contents, undecoded, wanted

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TEST = "ILSVRC2012_img_test_v10102019.tar"
pytestmark = pytest.mark.loading


def extract(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "xf", archive, "-C", folder], check=True)


def extract_train(archives: Path, folder: Path) -> None:
    extract(archives / TRAIN, folder)
    for tar in folder.glob("*.tar"):
        extract(tar, folder / tar.stem)
        tar.unlink()


def in_class_folders(folder: Path) -> None:
    for file in list(folder.glob("*.JPEG")):
        wnid = fakes.wnids()[fakes.validation_label(int(file.stem[-8:]))]
        (folder / wnid).mkdir(exist_ok=True)
        file.rename(folder / wnid / file.name)


def flat(archives: Path, folder: Path) -> Path:
    """As most scripts leave it."""
    extract_train(archives, folder / "train")
    extract(archives / VAL, folder / "val")
    extract(archives / TEST, folder)  # its members are in a folder test/
    return folder


def classes(archives: Path, folder: Path) -> Path:
    """As torchvision does."""
    in_class_folders(flat(archives, folder) / "val")
    return folder


def half_in_classes(archives: Path, folder: Path) -> Path:
    """A script that moves the validation images, ended in the middle."""
    flat(archives, folder / "all")
    shutil.move(folder / "all/val", folder / "rest")
    extract(archives / VAL, folder / "all/val")
    in_class_folders(folder / "rest")
    for moved in list((folder / "rest").glob("*/*.JPEG"))[::2]:
        (folder / "all/val" / moved.parent.name).mkdir(exist_ok=True)
        (folder / "all/val" / moved.name).rename(
            folder / "all/val" / moved.parent.name / moved.name
        )
    return folder / "all"


def kaggle(archives: Path, folder: Path) -> Path:
    flat(archives, folder / "ILSVRC/Data/CLS-LOC")
    (folder / "ILSVRC/ImageSets").mkdir()
    return folder


def class_tars(archives: Path, folder: Path) -> Path:
    extract(archives / TRAIN, folder)
    return folder


def class_tars_below(archives: Path, folder: Path) -> Path:
    """Beside the other archives, which are read as they are."""
    extract(archives / TRAIN, folder / "train")
    for name in (VAL, TEST):
        (folder / name).symlink_to(archives / name)
    return folder


def some_class_tars(archives: Path, folder: Path) -> Path:
    """A script that extracts them one by one, ended in the middle of the sixth."""
    extract(archives / TRAIN, folder / "train")
    tars = sorted((folder / "train").glob("*.tar"))[:6]
    for tar in tars:
        extract(tar, folder / "train" / tar.stem)
    for tar in tars[:5]:
        tar.unlink()
    next((folder / "train" / tars[5].stem).iterdir()).unlink()
    return folder


def links(archives: Path, folder: Path) -> Path:
    """A tree of links to another one."""
    classes(archives, folder / "real")
    for file in (folder / "real").glob("*/*/*.JPEG"):
        link = folder / "links" / file.relative_to(folder / "real")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return folder / "links"


LAYOUTS = [flat, classes, half_in_classes, kaggle, class_tars, class_tars_below, some_class_tars]


def check_rows(loaded: Any, archives: Archives) -> None:
    assert loaded
    for split, rows in loaded.items():
        assert sorted(contents(rows)) == wanted(archives.expected[split]), split


@pytest.mark.parametrize("name", ["default", "in_place"])
@pytest.mark.parametrize("layout", [*LAYOUTS, links])
def test_the_same_rows(
    layout: Callable[..., Path],
    name: str,
    archives: Archives,
    tmp_path: Path,
    cache: dict[str, Any],
) -> None:
    folder = layout(archives.folder, tmp_path / "tree")
    loaded = imagenet2012.load(folder, name, **cache)
    only_train = layout in (class_tars, some_class_tars)
    no_test = layout is links  # the members of test/ are one folder deep only
    splits = ["train"] if only_train else ["train", "validation"] + ["test"] * (not no_test)
    assert list(loaded) == splits
    check_rows(loaded, archives)
    original = imagenet2012.load(archives.folder, name, **cache)
    assert loaded["train"].features == original["train"].features
    assert loaded["train"][0]["image"].mode == "RGB"
    for order in ("archive", "mixed"):
        check_rows(imagenet2012.load(folder, name, streaming=True, order=order, **cache), archives)


@pytest.mark.parametrize("layout", [classes, class_tars_below])
def test_with_processes_and_mixed(
    layout: Callable[..., Path], archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    folder = layout(archives.folder, tmp_path / "tree")
    check_rows(imagenet2012.load(folder, order="mixed", num_proc=2, **cache), archives)


@pytest.mark.parametrize("below", ["", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_from_any_folder_above(
    below: str, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    kaggle(archives.folder, tmp_path / "tree")
    loaded = imagenet2012.load(tmp_path / "tree" / below, "in_place", **cache)
    assert set(loaded) == {"train", "validation", "test"}


def test_by_name(archives: Archives, tmp_path: Path, cache: dict[str, Any]) -> None:
    folder = classes(archives.folder, tmp_path / "tree")
    loaded = datasets.load_dataset("imagenet2012", data_dir=str(folder), **cache)
    check_rows(loaded, archives)
    files = {"validation": str(folder / "val")}
    loaded = datasets.load_dataset("imagenet2012", data_files=files, **cache)
    assert list(loaded) == ["validation"]
    check_rows(loaded, archives)
    check_rows(imagenet2012.load(folder / "train", **cache), archives)  # the folder itself


@pytest.mark.skipif(datasets.__version__ >= "4", reason="datasets 4 and later do not run scripts")
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["default", "in_place"])
def test_as_a_script(
    name: str, streaming: bool, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    folder = half_in_classes(archives.folder, tmp_path / "tree")
    class_tars(archives.folder, tmp_path / "tars")
    options = {"trust_remote_code": True, "streaming": streaming, **cache}
    for source in (folder, tmp_path / "tars"):
        script = str(ROOT / "imagenet2012.py")
        loaded = datasets.load_dataset(script, name, data_dir=str(source), **options)
        check_rows(loaded, archives)


def test_archives_win(archives: Archives, tmp_path: Path, cache: dict[str, Any]) -> None:
    folder = flat(archives.folder, tmp_path / "tree")
    for name in (TRAIN, VAL):
        (folder / name).symlink_to(archives.folder / name)
    loaded = imagenet2012.load(folder, "in_place", **cache)
    assert set(loaded) == {"train", "validation"}
    for rows in undecoded(loaded["train"]), undecoded(loaded["validation"]):
        assert rows[0]["image"]["path"].startswith("imagenet2012://")


def test_in_place_is_the_path_of_the_file(
    archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    """So that it is read without this package."""
    folder = classes(archives.folder, tmp_path / "tree")
    rows = imagenet2012.load(folder, "in_place", split="validation", **cache)
    for row in undecoded(rows):
        with Image.open(row["image"]["path"]) as image:
            image.load()
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    again = datasets.load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), **cache)
    assert again["train"][5]["image"].tobytes() == rows[5]["image"].tobytes()


def test_the_order_is_that_of_wnids_and_numbers(
    archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    loaded = imagenet2012.load(classes(archives.folder, tmp_path / "tree"), "in_place", **cache)
    names = loaded["train"]["file_name"][:]
    assert names == sorted(names, key=lambda name: (name[:9], int(name[10:-5])))
    assert loaded["validation"]["file_name"][:] == sorted(loaded["validation"]["file_name"][:])


# ------------------------------------------------------------------------- faults


def foreign_image(folder: Path) -> str:
    name = next((folder / "train/n01440764").iterdir()).name
    shutil.copy(folder / "train/n01440764" / name, folder / "train/n01443537" / name)
    return rf"images in a folder of others: 1 \(.*/train/n01443537/{name}\)"


def foreign_validation(folder: Path) -> str:
    file = next((folder / "val").glob("n*/*.JPEG"))
    (folder / "val/n15075141").mkdir(exist_ok=True)
    file.rename(folder / "val/n15075141" / file.name)
    return rf"images in a folder of others: 1 \(.*/val/n15075141/{file.name}\)"


def twice(folder: Path) -> str:
    file = next((folder / "val").glob("n*/*.JPEG"))
    shutil.copy(file, folder / "val" / file.name)
    return rf"images that appear twice: 1 \(.*{file.name}\)"


def foreign_names(folder: Path) -> str:
    for name in ("notes.txt", "n01440764_x.JPEG", "n01440764_1.jpeg", ".DS_Store"):
        (folder / "train/n01440764" / name).write_bytes(b"x")
    (folder / "train/n00000001").mkdir()
    return r"names that do not belong: 4 \(.*, …\)"


def dangling(folder: Path) -> str:
    (folder / "train/n01440764/n01440764_77777.JPEG").symlink_to(folder / "gone.JPEG")
    return r"links to nowhere, or no files: 1 \(.*/n01440764_77777.JPEG\)"


def goes_round(folder: Path) -> str:
    """It costs its class no other image."""
    link = folder / "train/n01440764/n01440764_77777.JPEG"
    link.symlink_to(link)
    return r"links to nowhere, or no files: 1 \(.*/n01440764_77777.JPEG\)"


def other_digits(folder: Path) -> str:
    (folder / "train/n01440764/n01440764_\u0661.JPEG").write_bytes(b"x")
    return r"names that do not belong: 1 \(.*/n01440764_\u0661.JPEG\)"


def number_too_large(folder: Path) -> str:
    (folder / "val/ILSVRC2012_val_00050001.JPEG").write_bytes(b"x")
    return r"names that do not belong: 1 \(.*/val/ILSVRC2012_val_00050001.JPEG\)"


FAULTS = [
    ("train", foreign_image),
    ("train", foreign_names),
    ("train", dangling),
    ("train", goes_round),
    ("train", other_digits),
    ("validation", foreign_validation),
    ("validation", twice),
    ("validation", number_too_large),
]


@pytest.mark.parametrize(("split", "fault"), FAULTS)
def test_faults(
    split: str,
    fault: Callable[[Path], str],
    archives: Archives,
    tmp_path: Path,
    cache: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = classes(archives.folder, tmp_path / "tree")
    said = fault(folder)
    for streaming in (False, True):
        with pytest.raises(ArchiveError, match=said):
            imagenet2012.load(folder, split=split, streaming=streaming, cache_dir=str(tmp_path))
    datasets.logging.enable_propagation()
    loaded = imagenet2012.load(folder, **cache)
    datasets.logging.disable_propagation()
    assert any(re.search(said, message) for message in caplog.messages), caplog.messages
    for split, rows in loaded.items():  # what is there is right, whatever else is there
        assert set(contents(rows)) <= set(wanted(archives.expected[split]))
    if fault in (dangling, goes_round, other_digits):
        assert sorted(contents(loaded["train"])) == wanted(archives.expected["train"])


def test_half_extracted(archives: Archives, tmp_path: Path, cache: dict[str, Any]) -> None:
    folder = flat(archives.folder, tmp_path / "tree")
    with pytest.raises(
        ArchiveError, match=r"tree/train: .*missing classes: 988 .*12 \(n01440764 has 5"
    ):
        imagenet2012.load(folder, split="train", cache_dir=cache["cache_dir"])
    with pytest.raises(ArchiveError, match="90 instead of 50,000"):
        imagenet2012.load(folder, "in_place", split="validation", cache_dir=cache["cache_dir"])


def test_a_class_tar_that_cannot_be_read(
    archives: Archives, tmp_path: Path, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another user; the others are checked, and loaded if that is wanted, all the same."""
    folder = class_tars(archives.folder, tmp_path / "tree")

    def opened(path: str) -> Any:
        if path.endswith("n01440764.tar"):
            raise ArchiveError(path, "cannot be opened: Permission denied.")
        return storage.open_archive(path)

    monkeypatch.setattr(tree_listing, "open_archive", opened)
    said = "class tars that cannot be read: 1 (.*/n01440764.tar)"
    with pytest.raises(ArchiveError, match=said.replace("(", r"\(").replace(")", r"\)")):
        imagenet2012.load(folder, split="train", cache_dir=cache["cache_dir"])
    train = imagenet2012.load(folder, split="train", **cache)
    others = {n: e for n, e in archives.expected["train"].items() if "n01440764" not in n}
    assert sorted(contents(train)) == wanted(others)


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    faults = tree_listing.Faults()
    assert tree_listing.scan(str(tmp_path / "gone"), CLASS_TAR, faults) == ([], [])
    assert "folders that cannot be read: 1" in faults.sentences()[0]


@pytest.mark.parametrize("name", ["default", "in_place"])
def test_an_empty_file(
    name: str, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    folder = flat(archives.folder, tmp_path / "tree")
    file = sorted((folder / "val").iterdir())[3]
    file.write_bytes(b"")
    rows = imagenet2012.load(folder, name, split="validation", **cache)
    assert len(rows) == 90
    with pytest.raises(Exception, match=file.name):
        rows[3]["image"]
    opened = splits.open_split(str(folder / "val"))
    (part,) = splits.parts_of(opened, "validation", read_labels())
    reader = splits.reader_of(opened, part, IMAGE_NAME)
    member = list(reader.members())[3]
    for read in (reader.read, lambda member: reader.read_into(member, memoryview(bytearray(9)))):
        with pytest.raises(ArchiveError, match=f"{file.name}.*empty"):
            read(member)


def test_a_file_that_is_gone(archives: Archives, tmp_path: Path, cache: dict[str, Any]) -> None:
    folder = flat(archives.folder, tmp_path / "tree")
    rows = imagenet2012.load(folder, "in_place", split="validation", **cache)
    stream = imagenet2012.load(folder, split="validation", streaming=True, **cache)
    iterator = iter(stream)
    file = sorted((folder / "val").iterdir())[80]
    file.unlink()
    # No broken image, of which a recipe leaves out as many as there are.
    with pytest.raises(ArchiveError, match=rf"{file.name}.*cannot be read"):
        rows[80]["image"]
    with pytest.raises(ArchiveError, match=rf"{file.name}.*cannot be read"):
        list(iterator)


def test_a_changed_tree_is_read_anew(
    archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    folder = classes(archives.folder, tmp_path / "tree")
    assert len(imagenet2012.load(folder, split="train", **cache)) == 60
    next((folder / "train/n01443537").iterdir()).unlink()
    assert len(imagenet2012.load(folder, split="train", **cache)) == 59
    before = imagenet2012.load(folder, split="train", **cache).cache_files
    shutil.move(folder, tmp_path / "moved")
    assert imagenet2012.load(tmp_path / "moved", split="train", **cache).cache_files == before


def test_check(archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from imagenet2012 import reports
    from imagenet2012_command import main

    monkeypatch.setattr(reports, "CORES", 1)
    folder = classes(archives.folder, tmp_path / "tree")
    run = CliRunner().invoke(main, ["check", str(folder), "--json", "--no-checks", "--decode"])
    train, validation, test = json.loads(run.stdout[run.stdout.index("{") :])["archives"]
    assert (run.exit_code, train["problems"], train["images"], train["decoded"]) == (0, [], 60, 60)
    assert (validation["images"], validation["decoded"], test["images"]) == (90, 90, 7)
    assert train["in_class"]["n01440764"] == 5
    assert train["size"] == sum(f.stat().st_size for f in (folder / "train").glob("*/*"))
    next((folder / "train/n01440764").iterdir()).write_bytes(b"")
    foreign_validation(folder)
    run = CliRunner().invoke(main, ["check", str(folder), "--json", "--no-checks"])
    train, validation, _ = json.loads(run.stdout[run.stdout.index("{") :])["archives"]
    assert run.exit_code == 1
    assert "empty files: 1" in train["problems"][0]
    assert "images in a folder of others: 1" in validation["problems"][0]
    run = CliRunner().invoke(main, ["check", str(folder)])
    assert "12 classes instead of 1,000" in run.output


@pytest.mark.parametrize("layout", [classes, class_tars])
@pytest.mark.parametrize("options", [[], ["--in-place"]])
def test_exports(
    options: list[str], layout: Callable[..., Path], archives: Archives, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from imagenet2012_command import main

    folder = layout(archives.folder, tmp_path / "tree")
    output = tmp_path / "output"
    run = CliRunner().invoke(
        main,
        [
            *("prepare", str(folder), "--no-checks", "--num-proc", "1"),
            *("--output", str(output), *options),
        ],
    )
    assert run.exit_code == 0, run.output
    loaded = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    check_rows(loaded, archives)


# ------------------------------------------------------------------------- which tree it is


def test_a_subset_with_the_times_of_the_whole_has_a_cache_of_its_own(
    tmp_path: Path, cache: dict[str, Any]
) -> None:
    """As `rsync -a` makes it, which keeps the times of folders."""
    for folder, names in (("whole", ("1", "2", "3")), ("subset", ("1",))):
        made = tmp_path / folder / "train" / "n01440764"
        made.mkdir(parents=True)
        for name in names:
            (made / f"n01440764_{name}.JPEG").write_bytes(fakes.jpeg(int(name)))
        for path in (made, made.parent, made.parent.parent):
            os.utime(path, ns=(10**18, 10**18))
    assert imagenet2012.load(tmp_path / "whole", split="train", **cache).num_rows == 3
    assert imagenet2012.load(tmp_path / "subset", split="train", **cache).num_rows == 1


def test_an_image_that_is_added_beside_class_folders_is_seen(
    tmp_path: Path, cache: dict[str, Any]
) -> None:
    """Of validation images that are half sorted into class folders."""
    validation = tmp_path / "val"
    wnid = imagenet2012.WNIDS[fakes.validation_label(1)]
    (validation / wnid).mkdir(parents=True)
    (validation / wnid / "ILSVRC2012_val_00000001.JPEG").write_bytes(fakes.jpeg(1))
    (validation / "ILSVRC2012_val_00000002.JPEG").write_bytes(fakes.jpeg(2))
    assert imagenet2012.load(tmp_path, split="validation", **cache).num_rows == 2
    (validation / "ILSVRC2012_val_00000003.JPEG").write_bytes(fakes.jpeg(3))
    assert imagenet2012.load(tmp_path, split="validation", **cache).num_rows == 3


def test_a_class_tar_that_is_written_to_while_it_is_read(tmp_path: Path) -> None:
    members = [(f"n01440764_{number}.JPEG", fakes.jpeg(number)) for number in range(1, 9)]
    path = tmp_path / "n01440764.tar"
    path.write_bytes(fakes.tar(members))
    rows = iter(
        imagenet2012.load(
            tmp_path, split="train", streaming=True, order="archive", verification_mode="no_checks"
        )
    )
    next(rows)
    data = path.read_bytes()
    place = data.rindex(b"\xff\xd9") - 9  # in the last image
    path.write_bytes(data[:place] + b"!" + data[place + 1 :])
    with pytest.raises(imagenet2012.ArchiveError, match="changed while"):
        list(rows)
