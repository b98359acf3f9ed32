"""Which archives are found, by each way of loading, and what is said of everything else."""

import bz2
import gzip
import io
import json
import logging
import lzma
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import pytest
from conftest import ROOT, Archives
from datasets.exceptions import ManualDownloadError

import imagenet2012
from rows import contents, wanted

pytestmark = pytest.mark.loading
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TEST = "ILSVRC2012_img_test_v10102019.tar"


def by_name(*args: Any, **options: Any) -> Any:
    """Load by `datasets.load_dataset`, with the arguments of `imagenet2012.load`."""
    folder, *rest = args or (None,)
    if folder is not None:
        options["data_dir"] = str(folder)
    return datasets.load_dataset("imagenet2012", *rest, **options)


WAYS = [imagenet2012.load, by_name]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the loader warns of."""
    warnings: list[str] = []
    monkeypatch.setattr(imagenet2012.storage.logger, "warning", warnings.append)
    return warnings


# ------------------------------------------------------------------------- with a folder


def nothing_else(folder: Path) -> None:
    pass


def test_archive_below(folder: Path) -> None:
    fakes.make_archives(folder / "test", classes=0, validation=0, test=4)


def train_archive_below(folder: Path) -> None:
    fakes.make_archives(folder / "train", classes=1, validation=0)


def old_train_archive_below(folder: Path) -> None:
    fakes.make_archives(folder / "old-train", classes=1, validation=0)


def exported_repository(folder: Path) -> None:
    (folder / "data").mkdir()
    for number in range(3):
        (folder / "data" / f"train-{number:05}-of-00003.parquet").write_bytes(b"PAR1")


def shards_of_other_splits(folder: Path) -> None:
    for split in ("train", "validation"):
        (folder / f"{split}-00000-of-00001.tar").write_bytes(b"x")


def extracted_trees(folder: Path) -> None:
    for name in ("train/n01440764/n01440764_1.JPEG", "val/ILSVRC2012_val_00000001.JPEG"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"x")


def metadata(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: other\n---\n")


BESIDE = [
    nothing_else,
    test_archive_below,
    train_archive_below,
    old_train_archive_below,
    exported_repository,
    shards_of_other_splits,
    extracted_trees,
    metadata,
]
test_archive_below.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize("beside", BESIDE)
def test_the_archives_directly_in_the_folder_are_meant(
    beside: Callable[[Path], None],
    load: Any,
    streaming: bool,
    tmp_path: Path,
    cache: dict[str, Any],
) -> None:
    folder = tmp_path / "archives"
    expected = fakes.make_archives(folder, classes=2, validation=7)
    beside(folder)
    loaded = load(folder, streaming=streaming, **cache)
    assert list(loaded) == ["train", "validation"]
    for split in loaded:
        assert sorted(contents(loaded[split])) == wanted(expected[split]), split


@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize("place", ["inside", "below", "outside", "pattern", "other names", "list"])
def test_files_that_were_named_are_meant(
    load: Any, place: str, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    """Wherever they lie, and whatever archives lie directly in the folder."""
    folder = tmp_path / "archives"
    fakes.make_archives(folder, classes=1, validation=3)
    (folder / "below").mkdir()
    for target in ("below/any-train.tar", "other.bin"):
        (folder / target).symlink_to(archives.folder / TRAIN)
    (folder / "val-of-ours.tar").symlink_to(archives.folder / VAL)
    files: Any = {
        "inside": {"validation": VAL},
        "below": {"train": "below/any-train.tar"},
        "outside": {"train": str(archives.folder / TRAIN), "test": str(archives.folder / TEST)},
        "pattern": {"train": "below/*.tar"},
        "other names": {"train": "other.bin", "validation": "val-of-ours.tar"},
        "list": ["other.bin", "val-of-ours.tar"],
    }[place]
    expected = archives.expected
    if place == "inside":
        expected = fakes.make_archives(tmp_path / "again", classes=1, validation=3)
    splits = sorted(files) if isinstance(files, dict) else ["train", "validation"]
    for streaming in (False, True):
        loaded = load(folder, data_files=files, streaming=streaming, **cache)
        assert sorted(loaded) == splits
        for split in splits:
            assert sorted(contents(loaded[split])) == wanted(expected[split])


@pytest.mark.parametrize("load", WAYS)
def test_nothing_is_listed(
    load: Any, tmp_path: Path, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder below may hold 1.3 million images."""
    fakes.make_archives(tmp_path / "archives", classes=1, validation=3)
    extracted_trees(tmp_path / "archives")
    listed: list[str] = []

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in ("os.scandir", "os.listdir"):
            listed.append(str(args[0]))

    monkeypatch.chdir(tmp_path / "archives")
    sys.addaudithook(audit)
    load(tmp_path / "archives", **cache)
    load(**cache)
    assert not [p for p in listed if "archives" in p and str(tmp_path / "cache") not in p]


@pytest.mark.parametrize("load", WAYS)
def test_other_processes_get_the_builder(
    load: Any, archives: Archives, cache: dict[str, Any]
) -> None:
    """The one that the name stands for has its class in another module than its parent."""
    loaded = load(archives.folder, num_proc=2, **cache)
    assert loaded["train"].info.builder_name == "imagenet2012"
    assert sorted(contents(loaded["train"])) == wanted(archives.expected["train"])
    stream = load(archives.folder, split="test", streaming=True)
    again = pickle.loads(pickle.dumps(stream))
    assert sorted(contents(again)) == wanted(archives.expected["test"])


# ------------------------------------------------------------------------- without a folder


@pytest.mark.parametrize("load", WAYS)
def test_without_a_folder(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """The variable's folder, else the working directory, else the newest copy, else an error."""
    options = {"cache_dir": str(tmp_path / "cache"), "verification_mode": "no_checks"}
    for name, images in (("variable", 3), ("working", 4)):
        fakes.make_archives(tmp_path / name, classes=0, validation=images)
    for name in ("empty", "elsewhere"):
        (tmp_path / name).mkdir()
    for name in ("working", "elsewhere"):
        (tmp_path / name / "val.py").write_text("import sys")
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path / "variable"))
    assert load(**options)["validation"].num_rows == 3
    monkeypatch.delenv("IMAGENET2012_DIR")
    assert load(**options)["validation"].num_rows == 4
    for name in ("empty", "elsewhere"):
        monkeypatch.chdir(tmp_path / name)
        said.clear()
        assert load(**options)["validation"].num_rows == 4
        assert str(tmp_path / "working") in said[-1] and "the copy that was made" in said[-1]
        assert load(split="validation[:2]", **options).num_rows == 2
        message = "(?s)No data_dir was given, IMAGENET2012_DIR is not set; in .*Nor is there a"
        with pytest.raises(ManualDownloadError, match=message):
            load(order="mixed", **options)
        with pytest.raises(ManualDownloadError, match=r"There is a prepared copy.*without stream"):
            load(streaming=True, **options)


@pytest.mark.parametrize("load", WAYS)
def test_splits_in_several_copies_are_all_found(
    load: Any, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"cache_dir": str(tmp_path / "cache"), "verification_mode": "no_checks"}
    imagenet2012.load(archives.folder, **options)  # each split in a cache of its own
    monkeypatch.chdir(tmp_path)
    loaded = load(num_proc=2, **options)
    assert sorted(loaded) == ["test", "train", "validation"]
    for split in loaded:
        assert sorted(contents(loaded[split])) == wanted(archives.expected[split])
    assert load(split="train+test", **options).num_rows == 67


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("load", WAYS)
def test_a_copy_whose_archives_were_moved_and_deleted(
    first: Any, load: Any, tmp_path: Path, cache: dict[str, Any], said: list[str]
) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    fakes.make_archives(a, classes=0, validation=5)
    first(a, **cache)
    a.rename(b)
    first(b, **cache)
    shutil.copytree(b, c)
    first(c, **cache)
    assert len(list(Path(cache["cache_dir"]).rglob("*.arrow"))) == 1
    for folder in (b, c):
        shutil.rmtree(folder)
    for folder in (a, b, c, None):
        assert load(folder, **cache)["validation"].num_rows == 5
    with pytest.raises(ManualDownloadError, match=r"There is a prepared copy, .*without a folder"):
        load(tmp_path / "never", **cache)


@pytest.mark.parametrize("load", WAYS)
def test_a_copy_with_other_features_is_not_taken_for_a_plain_one(
    load: Any, tmp_path: Path, cache: dict[str, Any]
) -> None:
    archives = tmp_path / "archives"
    fakes.make_archives(archives, classes=0, validation=5)
    features = load(archives, **cache)["validation"].features.copy()
    features["image"] = datasets.Image(decode=False)
    other = load(archives, features=features, **cache)["validation"]
    assert isinstance(other[0]["image"], dict)
    shutil.rmtree(archives)
    assert not isinstance(load(archives, **cache)["validation"][0]["image"], dict)
    with pytest.raises(ManualDownloadError):
        load(archives, features=features, **cache)


def test_a_copy_of_a_folder_below_is_not_taken(tmp_path: Path, cache: dict[str, Any]) -> None:
    fakes.make_archives(tmp_path / "a", classes=0, validation=5)
    imagenet2012.load(tmp_path / "a", **cache)
    with pytest.raises(ManualDownloadError, match="There is a prepared copy"):
        imagenet2012.load(tmp_path, **cache)


def test_a_copy_that_was_checked_comes_before_a_newer_one(
    tmp_path: Path, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for images in (7, 5):
        fakes.make_archives(tmp_path / str(images), classes=0, validation=images)
        imagenet2012.load(tmp_path / str(images), **cache)
        shutil.rmtree(tmp_path / str(images))
        if images == 7:  # as if it had been the original
            (path,) = Path(cache["cache_dir"]).rglob("origin.json")
            origin = json.loads(path.read_text())
            assert origin["checked"] is False
            path.write_text(json.dumps({**origin, "checked": True}))
    monkeypatch.chdir(tmp_path)
    assert imagenet2012.load(split="validation", **cache).num_rows == 7


def test_a_copy_whose_record_is_none_is_passed_over(tmp_path: Path, cache: dict[str, Any]) -> None:
    fakes.make_archives(tmp_path / "a", classes=0, validation=5)
    imagenet2012.load(tmp_path / "a", **cache)
    (path,) = Path(cache["cache_dir"]).rglob("origin.json")
    path.write_text("[]")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(ManualDownloadError):
        imagenet2012.load(tmp_path / "a", **cache)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of characters")
def test_a_folder_whose_name_is_not_utf8(tmp_path: Path, cache: dict[str, Any]) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4"))
    fakes.make_archives(folder, classes=0, validation=5)
    rows = imagenet2012.load(folder, "in_place", split="validation", **cache)
    assert rows[0]["image"].mode == "RGB"


def test_a_copy_of_an_earlier_release_is_found(tmp_path: Path, cache: dict[str, Any]) -> None:
    fakes.make_archives(tmp_path / "a", classes=0, validation=5)
    imagenet2012.load(tmp_path / "a", **cache)
    (path,) = Path(cache["cache_dir"]).rglob("origin.json")
    origin = json.loads(path.read_text())
    (origin["folder"],) = origin.pop("folders")
    path.write_text(json.dumps(origin))
    shutil.rmtree(tmp_path / "a")
    assert imagenet2012.load(tmp_path / "a", **cache)["validation"].num_rows == 5


# ------------------------------------------------------------------------- what is said instead


def packed(names: list[str]) -> bytes:
    return fakes.tar([(name, b"x" * 600) for name in names])


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"x")
    return buffer.getvalue()


CLASS = [f"n01440764/n01440764_{number}.JPEG" for number in range(3)]
KAGGLE = ["ILSVRC/Annotations/CLS-LOC/train/n01440764/n01440764_10040.xml"]
OLD_HUB = ["n01440764_10026_n01440764.JPEG", "n02085620_1_n02085620.JPEG"]
VALIDATION = packed(["ILSVRC2012_val_00000003.JPEG"])

FILES = {
    "kaggle.tar.gz": (gzip.compress(packed(KAGGLE)), "a gzip file, Kaggle's: not the archives"),
    "kaggle.zip": (zipped(KAGGLE[0]), "a zip file, Kaggle's: not the archives"),
    "kaggle.tar": (packed(KAGGLE), "Kaggle's: not the archives"),
    "train_images_0.tar.gz": (gzip.compress(packed(OLD_HUB)), "a part of the Hub's imagenet-1k"),
    "val_images.tar.gz": (
        gzip.compress(packed(["ILSVRC2012_val_00000001_n01751748.JPEG"])),
        "a part of the Hub's imagenet-1k",
    ),
    "ILSVRC2012_devkit_t12.tar.gz": (
        gzip.compress(packed(["ILSVRC2012_devkit_t12/COPYING"])),
        "the development kit",
    ),
    "devkit.tar": (packed(["ILSVRC2012_devkit_t12/readme.txt"]), "the development kit"),
    "boxes.tar.gz": (gzip.compress(packed(["n01440764/n01440764_1.xml"])), "bounding boxes"),
    "ILSVRC2012_bbox_val_v3.tgz": (
        gzip.compress(packed(["val/ILSVRC2012_val_00000001.xml"])),
        "bounding boxes",
    ),
    "folders.tar": (packed(CLASS), "made of extracted training images in class folders"),
    "folders-in-train.tar": (packed([f"./train/{name}" for name in CLASS]), "class folders"),
    "one.tar": (packed([name[10:] for name in CLASS]), "the tar of a single class"),
    "flat.tar": (
        packed(["n01440764_1.JPEG", "n01443537_2.JPEG"]),
        "seems to be extracted training images",
    ),
    "v.tar.gz": (gzip.compress(VALIDATION), "a gzip file of the validation archive: decompress it"),
    "v.tar.bz2": (bz2.compress(VALIDATION), "a bzip2 file of the validation archive: decompress"),
    "v.tar.xz": (lzma.compress(VALIDATION), "an xz file of the validation archive: decompress it"),
    "v": (gzip.compress(VALIDATION), "a gzip file of the validation archive: decompress it"),
    "v.zip": (zipped(f"imagenet/{VAL}"), f"a zip file with {VAL} in it: unpack it"),
    "archive.bin": (VALIDATION, "the validation archive under another name"),
    "notes.tar.gz": (gzip.compress(packed(["notes.txt"])), "a gzip file, a tar archive of other"),
    "broken.tar.gz": (gzip.compress(VALIDATION)[:20], "seems to be a gzip file."),
}


@pytest.mark.parametrize("name", list(FILES))
def test_a_file_that_is_no_archive(name: str, tmp_path: Path) -> None:
    """Only a file that holds an archive is to be decompressed; others are 155 GB of work."""
    data, message = FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ManualDownloadError) as caught:
        by_name(tmp_path)
    hint = str(caught.value).partition("\n\n")[0]
    assert message in hint
    assert ("decompress" in hint) == ("decompress" in message)
    if name not in ("archive.bin", "v.zip"):
        (tmp_path / name).rename(tmp_path / VAL)
        with pytest.raises(imagenet2012.ArchiveError) as refused:
            imagenet2012.load(tmp_path)
        assert message.removeprefix("seems to be ").rstrip(".") in str(refused.value)


def kaggle(folder: Path) -> None:
    (folder / "ILSVRC" / "Data" / "CLS-LOC" / "train").mkdir(parents=True)
    (folder / "ILSVRC" / "ImageSets").mkdir()


def dangling(folder: Path) -> None:
    (folder / VAL).symlink_to("/nowhere/val.tar")


def tfds(folder: Path) -> None:
    fakes.make_archives(folder / "downloads" / "manual")


def home(folder: Path) -> None:
    fakes.make_archives(folder / "tensorflow_datasets" / "downloads" / "manual")


def parquet(folder: Path) -> None:
    (folder / "train-00000-of-00294.parquet").write_bytes(b"PAR1")


def clone(folder: Path) -> None:
    (folder / "imagenet2012" / "imagenet2012").mkdir(parents=True)
    (folder / "imagenet2012" / "imagenet2012.py").write_text("import datasets")


def two_folders(folder: Path) -> None:
    fakes.make_archives(folder / "train", classes=1, validation=0)
    fakes.make_archives(folder / "val", classes=0, validation=3)


def two_folders_and_one_of_both(folder: Path) -> None:
    fakes.make_archives(folder / "a", classes=1, validation=0)
    fakes.make_archives(folder / "both", classes=1, validation=3)


STATES: list[tuple[Callable[[Path], None], str]] = [
    (kaggle, r"ILSVRC/ looks like extracted images"),
    (dangling, rf"{VAL} \(which leads nowhere\)(?s:.*)is a link to /nowhere/val\.tar, which does"),
    (tfds, r"subfolder downloads/manual/ \(train, validation\): pass .*/downloads/manual\."),
    (home, r"pass .*/tensorflow_datasets/downloads/manual\."),
    (parquet, r"This folder holds Parquet files: datasets\.load_dataset\('/.*'\)"),
    (exported_repository, r"data/ holds Parquet files: datasets\.load_dataset\('/.*/data'\)"),
    (clone, r"imagenet2012/ is a clone of this loader"),
    (two_folders, r"pass data_files=\{'train': '/.*train\.tar', 'validation': '/.*val\.tar'\}"),
    (two_folders_and_one_of_both, r"subfolder both/ \(train, validation\): pass .*/both\."),
]


def test_what_cannot_be_looked_at_is_no_link(tmp_path: Path) -> None:
    """It was there when the folder was listed, or may not be seen."""
    assert list(imagenet2012.archives.hints_of(str(tmp_path), "gone.tar")) == []


def test_of_a_large_folder_the_count_is_a_least_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (imagenet2012.archives, imagenet2012.storage):
        monkeypatch.setattr(module, "MAX_ENTRIES", 20)
    for number in range(30):
        (tmp_path / f"{number}.txt").touch()
    assert "and at least 12 more." in imagenet2012.archives.describe(str(tmp_path))


def test_a_tar_that_begins_like_a_zip(tmp_path: Path, cache: dict[str, Any]) -> None:
    data = fakes.tar([("PKU/" + name, d) for name, d in fakes.flat_images("val", 5)])
    (tmp_path / VAL).write_bytes(data)
    assert data.startswith(b"PK")
    assert imagenet2012.load(tmp_path, split="validation", **cache).num_rows == 5


@pytest.mark.parametrize(("state", "message"), STATES, ids=[s.__name__ for s, _ in STATES])
def test_a_folder_without_archives(
    state: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    state(tmp_path)
    with pytest.raises(ManualDownloadError, match=message):
        by_name(tmp_path)


def test_the_data_files_that_are_printed_work(tmp_path: Path, cache: dict[str, Any]) -> None:
    two_folders(tmp_path)
    with pytest.raises(ManualDownloadError) as caught:
        imagenet2012.load(tmp_path)
    text = str(caught.value).partition("pass data_files=")[2].partition("}")[0] + "}"
    for load in WAYS:
        assert list(load(data_files=eval(text), **cache)) == ["train", "validation"]


@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize("ending", ["part", "crdownload", "gz"])
def test_the_other_archive_is_not_ready(
    load: Any, ending: str, tmp_path: Path, cache: dict[str, Any], said: list[str]
) -> None:
    fakes.make_archives(tmp_path, classes=1, validation=0)
    data = gzip.compress(VALIDATION) if ending == "gz" else b""
    (tmp_path / f"{VAL}.{ending}").write_bytes(data)
    load(tmp_path, **cache)
    words = "decompress it" if ending == "gz" else "still being downloaded"
    assert f"There is no {VAL}" in said[0] and f"{VAL}.{ending}" in said[0] and words in said[0]


def test_the_other_archive_is_a_link_to_nowhere(
    tmp_path: Path, cache: dict[str, Any], said: list[str]
) -> None:
    fakes.make_archives(tmp_path, classes=1, validation=0)
    dangling(tmp_path)
    imagenet2012.load(tmp_path, **cache)
    assert "is a link to /nowhere/val.tar, which does not exist" in said[0]


# ------------------------------------------------------------------------- options


def test_a_configuration_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is a configuration, not a folder: pass name='in_place'"):
        imagenet2012.load("in_place")


@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orders": "mixed"}, "no option 'orders': did you mean 'order'?"),
        ({"root": "/x"}, "no option 'root': did you mean 'data_dir'?"),
        ({"labels": "wnid"}, "no option 'labels': did you mean 'label_names'?"),
        ({"copy": ""}, "no option 'copy'"),
        ({"zzzz": 1}, "no option 'zzzz', only data_dir, data_files, label_names, order"),
        ({"transform": len}, "no option 'transform': transform what was loaded, by"),
        ({"num_proc": "4"}, "num_proc is a number of processes, not '4'"),
        ({"num_proc": 0}, "num_proc is a number of processes, not 0"),
        ({"name": "train"}, "'train' is a split, not a configuration: pass split='train'"),
        ({"name": "inplace"}, "no configuration 'inplace': did you mean 'in_place'?"),
    ],
)
def test_misspelt_options(
    load: Any, options: dict[str, Any], message: str, archives: Archives, cache: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        load(archives.folder, **options, **cache)
    assert message in str(caught.value) and "Config(" not in str(caught.value)


@pytest.mark.parametrize("load", WAYS)
def test_processes_have_no_meaning_for_a_stream(load: Any, archives: Archives) -> None:
    with pytest.raises(NotImplementedError, match="DataLoader"):
        load(archives.folder, streaming=True, num_proc=4)


# ------------------------------------------------------------------------- what else is told


@pytest.mark.parametrize("load", WAYS)
def test_warnings_obey_the_verbosity(load: Any, tmp_path: Path, cache: dict[str, Any]) -> None:
    fakes.make_archives(tmp_path, classes=1, validation=0)
    told, before = io.StringIO(), datasets.logging.get_verbosity()
    handler = logging.StreamHandler(told)
    logging.getLogger("datasets").addHandler(handler)  # as that of `datasets` itself
    try:
        datasets.logging.set_verbosity_error()
        load(tmp_path, **cache)
        assert "There is no" not in told.getvalue()
        datasets.logging.set_verbosity_warning()
        load(tmp_path, **cache, download_mode="force_redownload")
        assert "There is no" in told.getvalue()
    finally:
        datasets.logging.set_verbosity(before)
        logging.getLogger("datasets").removeHandler(handler)


@pytest.mark.parametrize("load", WAYS)
def test_a_stream_without_checks_is_silent(load: Any, archives: Archives, said: list[str]) -> None:
    load(archives.folder, streaming=True, verification_mode="no_checks")
    assert not said


@pytest.mark.parametrize("load", WAYS)
def test_a_stream_of_the_original_knows_its_length(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / VAL
    path.write_bytes(VALIDATION)
    with path.open("r+b") as file:
        file.truncate(6_744_924_160)  # a sparse file
    monkeypatch.setattr(imagenet2012.tar_reader.TarReader, "check_end_mark", lambda self: None)
    stream = load(tmp_path, split="validation", streaming=True)
    assert stream.info.splits["validation"].num_examples == 50_000
    path.write_bytes(VALIDATION)
    stream = load(tmp_path, split="validation", streaming=True)
    assert not stream.info.splits


def test_the_first_of_two_faults_is_told_in_every_run(tmp_path: Path) -> None:
    """In the order of the archive, whatever the seed of hashes."""
    images = [(wnid, fakes.tar(members)) for wnid, members in fakes.train_images(3, 4)]
    tars = [
        (f"{wnid}.tar", data if k == 1 else b"x" * 2048) for k, (wnid, data) in enumerate(images)
    ]
    (tmp_path / TRAIN).write_bytes(fakes.tar(tars))
    code = (
        "import sys, imagenet2012\n"
        "try: imagenet2012.load(sys.argv[1], verification_mode='no_checks')\n"
        "except Exception as error: print(error)"
    )
    told = set()
    for seed in range(3):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", code, str(tmp_path)]
        told.add(subprocess.run(command, env=env, capture_output=True, text=True).stdout)
    assert len(told) == 1 and "at byte 512" in told.pop()


# ------------------------------------------------------------------------- whose cache it is

AS_ANOTHER_USER = """
import os, sys
import datasets, imagenet2012
imagenet2012.load(sys.argv[1], cache_dir=sys.argv[3], verification_mode="no_checks")
if os.geteuid() == 0:  # now that all is imported: another user may not see this user's Python
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
def by_name(folder, **options):
    return datasets.load_dataset("imagenet2012", data_dir=folder, **options)
for load in (imagenet2012.load, by_name):
    try:
        load(sys.argv[1], cache_dir=sys.argv[2], verification_mode="no_checks")
    except OSError as error:
        print(type(error).__name__, error)
    else:
        print("no error")
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has other rights")
@pytest.mark.parametrize("state", ["prepared", "new", "unlocked"])
def test_a_cache_that_may_not_be_written_to(state: str) -> None:
    """As where another user prepared it under umask 022, or it is mounted read-only."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        fakes.make_archives(folder / "archives", classes=0, validation=3)
        cache = folder / "cache"
        cache.mkdir()
        if state != "new":
            for load in WAYS:
                options = {"cache_dir": str(cache), "verification_mode": "no_checks"}
                load(folder / "archives", **options)
        if state == "unlocked":
            for lock in cache.rglob("*.lock"):
                lock.unlink()
        for path in (cache, *cache.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "home")}
        folders = [str(folder / name) for name in ("archives", "cache", "other")]
        command = [sys.executable, "-c", AS_ANOTHER_USER, *folders]
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True)
        for path in (cache, *cache.rglob("*")):
            path.chmod(0o755)
        lines = done.stdout.splitlines()
        assert len(lines) == 2, done.stderr
        for line in lines:
            for part in ("PermissionError", str(cache), "cache_dir=", "umask 002", "save_to_disk"):
                assert part in line


def test_a_copy_whose_archives_are_gone_is_never_prepared_again(
    tmp_path: Path, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even of other archives that are found instead."""
    expected = fakes.make_archives(tmp_path / "gone", classes=2, validation=0)["train"]
    imagenet2012.load(tmp_path / "gone", split="train", **cache)
    (tmp_path / "gone" / "ILSVRC2012_img_train.tar").unlink()
    fakes.make_archives(tmp_path / "others", classes=1, validation=3)
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path / "others"))
    options = {"split": "train", "download_mode": "force_redownload", **cache}
    for _ in range(2):
        loaded = imagenet2012.load(tmp_path / "gone", **options)
        assert sorted(contents(loaded)) == wanted(expected)
