"""Loading in every way, on every supported version of `datasets`: the right rows come out."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import layouts
import pytest
from conftest import HANG, ROOT, Archives
from imagenet2012.decoding import StoredImage
from imagenet2012.parts import Part
from imagenet2012.rows import stretches_of
from layouts import TEST, TRAIN, VAL
from packaging.version import Version

import imagenet2012
from rows import contents, undecoded, wanted

pytestmark = pytest.mark.loading
SCRIPTS = pytest.mark.skipif(
    Version(datasets.__version__) >= Version("4"), reason="datasets 4 and later do not run scripts"
)
SPLITS = ("train", "validation", "test")
ORDERS = pytest.mark.parametrize("order", ["archive", "mixed"])
CONFIGS = pytest.mark.parametrize("config", ["default", "in_place"])


def check(loaded: Any, archives: Archives, splits: tuple[str, ...] = SPLITS) -> None:
    assert tuple(loaded) == splits
    for split in splits:
        assert sorted(contents(loaded[split])) == wanted(archives.expected[split]), split


def made(cache: dict[str, Any]) -> list[str]:
    """Return the names of the Arrow files in a cache."""
    return sorted(path.name for path in Path(cache["cache_dir"]).rglob("*.arrow"))


# ------------------------------------------------------------------------- the ways to load

LAYOUTS = (layouts.copied, layouts.class_tars, layouts.class_folders, layouts.kaggle)
WAYS: dict[str, dict[str, Any]] = {
    "a copy": {},
    "a copy by two": {"num_proc": 2},
    "in place": {"name": "in_place"},
    "in place by two": {"name": "in_place", "num_proc": 2},
    "a stream": {"streaming": True, "order": "archive"},
    "a mixed stream": {"streaming": True},
    "a stream in place": {"streaming": True, "order": "archive", "name": "in_place"},
    "a mixed stream in place": {"streaming": True, "order": "mixed", "name": "in_place"},
}


@pytest.fixture(scope="module")
def folders(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """The images in each layout."""
    top = tmp_path_factory.mktemp("layouts")
    return {layout: layout(archives.folder, top / layout.__name__) for layout in LAYOUTS}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_rows(
    layout: Callable[..., Path],
    way: str,
    folders: dict[Any, Path],
    archives: Archives,
    cache: dict[str, Any],
) -> None:
    loaded = imagenet2012.load(folders[layout], **WAYS[way], **cache)
    check(loaded, archives)
    assert bool(made(cache)) != WAYS[way].get("streaming", False), "a stream writes nothing"
    row = next(iter(loaded["train"]))
    assert row["image"].mode == "RGB" and row["file_name"].endswith(".JPEG")


@CONFIGS
def test_by_name(config: str, archives: Archives, cache: dict[str, Any]) -> None:
    options = {"data_dir": str(archives.folder), **cache}
    check(datasets.load_dataset("imagenet2012", config, **options), archives)
    check(datasets.load_dataset("imagenet2012", config, streaming=True, **options), archives)


def test_the_builder(archives: Archives, tmp_path: Path) -> None:
    builder = imagenet2012.Imagenet2012(data_dir=archives.folder, cache_dir=str(tmp_path))
    builder.download_and_prepare(verification_mode="no_checks")
    check(builder.as_dataset(), archives)
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {
        split: len(rows) for split, rows in archives.expected.items()
    }


@SCRIPTS
@CONFIGS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_as_a_script(
    layout: Callable[..., Path],
    config: str,
    folders: dict[Any, Path],
    archives: Archives,
    cache: dict[str, Any],
) -> None:
    script = str(ROOT / "imagenet2012.py")
    options = {"data_dir": str(folders[layout]), "trust_remote_code": True, **cache}
    check(datasets.load_dataset(script, config, **options), archives)
    check(datasets.load_dataset(script, config, streaming=True, **options), archives)


@SCRIPTS
def test_a_script_far_from_the_repository(archives: Archives, tmp_path: Path) -> None:
    """The script finds its tables without the package, from any working directory."""
    code = (
        "import sys, datasets\n"
        "sys.path = [p for p in sys.path if p != '']\n"
        "d = datasets.load_dataset(sys.argv[1], data_dir=sys.argv[2], trust_remote_code=True,\n"
        "    verification_mode='no_checks', label_names='wnid', split='train')\n"
        "print(d.num_rows, d.features['label'].names[0])"
    )
    command = [sys.executable, "-c", code, str(ROOT / "imagenet2012.py"), str(archives.folder)]
    env = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["60", "n01440764"], done.stderr


# ------------------------------------------------------------------------- where the archives are


def test_paths_of_every_form(
    archives: Archives, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    home, name = archives.folder.parent, archives.folder.name
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    for folder in (f"~/{name}", name, f"./{name}/", archives.folder, Path("~") / name):
        assert imagenet2012.load(folder, split="test", **cache).num_rows == 7
        options = {"data_dir": str(folder), **cache}
        assert datasets.load_dataset("imagenet2012", split="test", **options).num_rows == 7
    monkeypatch.chdir(archives.folder)
    check(datasets.load_dataset("imagenet2012", **cache), archives)


@CONFIGS
@pytest.mark.parametrize("name", ["a b", "50% #1?", "x::y", "träin 图", "[a]*{b}", "d" * 200])
def test_strange_folders(
    name: str, config: str, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    (tmp_path / name).symlink_to(archives.folder)
    check(imagenet2012.load(tmp_path / name, config, **cache), archives)
    check(imagenet2012.load(tmp_path / name, config, streaming=True), archives)


@pytest.mark.parametrize("form", [str, Path, lambda path: {"test": path}])
def test_data_files_of_every_form(
    form: Any, archives: Archives, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    """By what they hold if no split is given; relative ones lie in the folder, if one is given."""
    loaded = imagenet2012.load(data_files=form(str(archives.folder / TEST)), **cache)
    check(loaded, archives, ("test",))
    assert list(imagenet2012.load(archives.folder, data_files=form(TEST), **cache)) == ["test"]
    monkeypatch.chdir(archives.folder)
    assert list(imagenet2012.load(data_files=form(TEST), **cache)) == ["test"]


def by_name(folder: Path | None, **options: Any) -> Any:
    return datasets.load_dataset("imagenet2012", data_dir=folder and str(folder), **options)


@pytest.mark.parametrize("load", [imagenet2012.load, by_name])
def test_data_files_win_over_the_folder(
    load: Any, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    """Whatever they are called, and also as a tree."""
    path = tmp_path / "my copy.bin"
    path.symlink_to(archives.folder / VAL)
    (tmp_path / TRAIN).write_bytes(b"another")
    tree = layouts.class_folders(archives.folder, tmp_path / "tree") / "val"
    for found in (path, tree):
        loaded = load(tmp_path, data_files={"validation": str(found)}, **cache)
        check(loaded, archives, ("validation",))


# ------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train+validation", 150),
        ("validation[10%:20%]", 9),
        (["train[:3]", "test"], [3, 7]),
        (datasets.ReadInstruction("train", to=25, unit="%"), 15),
        ("all", 157),
    ],
)
def test_split_expressions(
    split: Any, rows: Any, archives: Archives, cache: dict[str, Any]
) -> None:
    loaded = imagenet2012.load(archives.folder, "in_place", split=split, **cache)
    assert ([d.num_rows for d in loaded] if isinstance(loaded, list) else loaded.num_rows) == rows


def test_expressions_share_the_copies_of_their_splits(
    archives: Archives, cache: dict[str, Any]
) -> None:
    """And only what is asked for is prepared."""
    both = imagenet2012.load(archives.folder, split="validation[:4]+train[5:7]", **cache)
    assert made(cache) == ["imagenet2012-train.arrow", "imagenet2012-validation.arrow"]
    expected = [*list(archives.expected["validation"])[:4], *list(archives.expected["train"])[5:7]]
    assert both["file_name"][:] == expected
    assert str(both.split) == "validation[:4]+train[5:7]"
    assert both[5]["image"].mode == "RGB"
    imagenet2012.load(archives.folder, split=["train", "validation[50%:]"], **cache)
    assert len(made(cache)) == 2


@pytest.mark.parametrize("split", ["val", "train+validaton", "train[:a]", ["train", "tset"]])
def test_a_misspelt_split_is_told_before_the_work(
    split: Any, archives: Archives, cache: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"no split '|Unrecognized"):
        imagenet2012.load(archives.folder, split=split, **cache)
    assert not made(cache)


# ------------------------------------------------------------------------- what comes out


def test_features(archives: Archives, cache: dict[str, Any]) -> None:
    for options in ({}, {"streaming": True}):
        loaded = imagenet2012.load(archives.folder, split="train", **options, **cache)
        assert list(loaded.features) == ["file_name", "image", "label"]
        assert loaded.features["file_name"] == datasets.Value("string")
        assert loaded.features["image"] == datasets.Image(mode="RGB")
        assert loaded.features["label"].num_classes == 1000
        assert str(loaded.info.version) == "5.0.0"
        assert "ILSVRC15" in loaded.info.citation
        assert loaded.info.supervised_keys.output == "label"


@pytest.mark.parametrize("streaming", [False, True])
def test_label_names(streaming: bool, archives: Archives, cache: dict[str, Any]) -> None:
    options = {"split": "train", "streaming": streaming, **cache}
    words = imagenet2012.load(archives.folder, **options)
    wnids = imagenet2012.load(archives.folder, label_names="wnid", **options)
    assert words.features["label"].int2str(0) == "tench, Tinca tinca"
    assert wnids.features["label"].names == list(imagenet2012.WNIDS)
    for one, other in zip(undecoded(words), undecoded(wnids), strict=True):
        assert one["label"] == other["label"]
        assert one["file_name"].startswith(imagenet2012.WNIDS[one["label"]])


@pytest.mark.parametrize("folder", ["", "val/", "./ILSVRC/val/"])
def test_validation_labels_go_by_number(folder: str, tmp_path: Path, cache: dict[str, Any]) -> None:
    """Whatever subset there is, in whatever order."""
    members = fakes.flat_images("val", 37, seed=9)
    (tmp_path / VAL).write_bytes(fakes.tar([(folder + name, data) for name, data in members]))
    loaded = imagenet2012.load(tmp_path, split="validation", **cache)
    assert loaded["file_name"][:] == [name for name, _ in members]
    assert loaded["label"][:] == [fakes.validation_label(int(n[15:23])) for n, _ in members]


def test_bytes_are_kept_beside_files_of_the_same_names(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    """`datasets` would store the path of such a file instead of the bytes."""
    monkeypatch.chdir(tmp_path)
    for name in archives.expected["train"]:
        for folder in (Path(), Path(name.split("_")[0] + ".tar"), Path("train")):
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"not this")
    for options in ({}, {"streaming": True}):
        loaded = imagenet2012.load(archives.folder, split="train", **options, **cache)
        assert sorted(contents(loaded)) == wanted(archives.expected["train"])


@pytest.mark.parametrize(
    ("config", "num_proc"), [("default", None), ("in_place", 3), ("default", 13)]
)
def test_what_is_prepared_is_in_the_order_of_the_archives(
    config: str, num_proc: int | None, archives: Archives, cache: dict[str, Any]
) -> None:
    """Also by more processes than there are classes."""
    options = {"num_proc": num_proc, **cache}
    for split in ("train", "validation"):
        loaded = imagenet2012.load(archives.folder, config, split=split, **options)
        assert loaded["file_name"][:] == list(archives.expected[split])


@pytest.mark.parametrize("room", [1, 3_000])
@pytest.mark.parametrize("length", [1, 7, 1_000])
def test_tables_of_every_size(
    length: int,
    room: int,
    archives: Archives,
    cache: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imagenet2012.tables, "MAX_TABLE_BYTES", room)
    check(imagenet2012.load(archives.folder, writer_batch_size=length, **cache), archives)


def test_num_proc_under_spawn(archives: Archives, tmp_path: Path) -> None:
    code = (
        "import multiprocess, sys\n"
        "if __name__ == '__main__':\n"
        "    multiprocess.set_start_method('spawn')\n"
        "    import imagenet2012\n"
        "    for config in ('default', 'in_place'):\n"
        "        d = imagenet2012.load(sys.argv[1], config, num_proc=2, split='train',\n"
        "            verification_mode='no_checks')\n"
        "        print(config, d.num_rows)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, str(program), str(archives.folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANG)
    assert done.stdout == "default 60\nin_place 60\n", done.stderr


def test_num_proc_in_a_script_that_processes_run_again(
    archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    """It ends and says what is missing. Where there is a copy, it may stay as it is."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocess, sys\n"
        "multiprocess.set_start_method('spawn', force=True)\n"
        "import imagenet2012\n"
        "rows = imagenet2012.load(sys.argv[1], num_proc=2, split='train', cache_dir=sys.argv[2],\n"
        "    verification_mode='no_checks')\n"
        "if __name__ == '__main__':\n"
        "    print(multiprocess.Pool(1).map(len, [rows]))\n"
    )
    command = [sys.executable, str(program), str(archives.folder), cache["cache_dir"]]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for expected in ("", "[60]\n"):
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANG)
        assert done.stdout == expected, done.stderr
        assert ('if __name__ == "__main__":' in done.stderr) == (not expected)
        imagenet2012.load(archives.folder, split="train", **cache)


def test_a_mixed_copy_is_refused(archives: Archives, cache: dict[str, Any]) -> None:
    for load in (imagenet2012.load, by_name):
        with pytest.raises(ValueError, match="is for streams"):
            load(archives.folder, order="mixed", **cache)
    assert not made(cache)


# ------------------------------------------------------------------------- streams


def names_of(stream: Any) -> list[str]:
    return [row["file_name"] for row in undecoded(stream)]


def test_streams_are_of_whole_splits(archives: Archives) -> None:
    options = {"streaming": True, "verification_mode": "no_checks"}
    train, test = imagenet2012.load(archives.folder, split=["train", "test"], **options)
    assert (len(names_of(train)), len(names_of(test))) == (60, 7)
    both = imagenet2012.load(archives.folder, split="train+test", **options)
    assert names_of(both) == names_of(train) + names_of(test)
    with pytest.raises(ValueError, match=r"of whole splits, not of train\[:10\]"):
        imagenet2012.load(archives.folder, split="train[:10]", **options)


def test_rows_of_a_stream_are_taken_as_they_are(archives: Archives) -> None:
    """Unless somebody changed them, or wants them otherwise."""
    stream = imagenet2012.load(archives.folder, split="train", streaming=True)
    features, image = stream.features, {"path": "a.JPEG", "bytes": b"x"}
    row = {"file_name": "a.JPEG", "image": StoredImage(image), "label": 3}
    assert features.encode_example(row) is row
    changed = {**row, "image": image, "label": "tench, Tinca tinca"}
    assert features.encode_example(changed) == {**row, "label": 0}
    texts = undecoded(stream.cast_column("label", datasets.Value("string")))
    assert {row["label"] for row in texts} == {str(label) for label in range(12)}


@pytest.mark.parametrize(("image_bytes", "shards"), [(110_000, 128), (11_000, 58), (1_000, 7)])
def test_mixed_shards_are_worth_their_search(image_bytes: int, shards: int) -> None:
    """128 of full class tars; fewer of small ones, where most would have no image of a class."""
    parts = [Part("", 0, 1300 * (512 + image_bytes + -image_bytes % 512) + 1024)] * 3
    assert len(stretches_of("train", parts, "mixed")) == shards
    assert len(stretches_of("train", parts, "archive")) == 3


@pytest.mark.skipif(not hasattr(datasets.IterableDataset, "state_dict"), reason="not in 3.0")
@ORDERS
@pytest.mark.parametrize("stop", [0, 1, 17, 59])
def test_a_stream_resumes(stop: int, order: str, archives: Archives) -> None:
    options = {"split": "train", "streaming": True, "order": order}
    first, second = (undecoded(imagenet2012.load(archives.folder, **options)) for _ in range(2))
    names, iterator = names_of(second), iter(first)
    seen = [next(iterator)["file_name"] for _ in range(stop)]
    second.load_state_dict(first.state_dict())
    assert seen + [row["file_name"] for row in second] == names


@ORDERS
@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_every_node_gets_its_part(world_size: int, order: str, archives: Archives) -> None:
    from datasets.distributed import split_dataset_by_node

    stream = imagenet2012.load(archives.folder, split="train", streaming=True, order=order)
    parts = [split_dataset_by_node(stream, rank, world_size) for rank in range(world_size)]
    names = [name for part in parts for name in names_of(part)]
    assert sorted(names) == sorted(archives.expected["train"])


@pytest.fixture(scope="module")
def full_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 1000 classes of 130 tiny members, whose bytes are no matter here."""
    folder = tmp_path_factory.mktemp("full")
    images = {
        wnid: [(f"{wnid}_{k * 3 + 1}.JPEG", b"x" * (200 + k * 37 % 900)) for k in range(130)]
        for wnid in fakes.wnids()
    }
    (folder / TRAIN).write_bytes(fakes.train_tar(images))
    return folder


def test_mixed_order_mixes_the_classes(full_classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Regions of ten images of a class, as there are of 1300 in 128.
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 13)
    monkeypatch.setattr(imagenet2012.rows, "MIN_REGION_BYTES", 1)
    stream = undecoded(imagenet2012.load(full_classes, split="train", streaming=True))
    labels = [row["label"] for row in stream.take(9000)]
    for start in range(0, 8000, 500):
        assert len(set(labels[start : start + 1000])) >= 900
    assert len(set(labels[:256])) > 200 and max(Counter(labels[:256]).values()) <= 2
    rows = iter(stream.shuffle(seed=0))
    for _ in range(3):
        assert len({next(rows)["label"] for _ in range(256)}) >= 200


def test_mixed_order_is_the_default_and_the_same_each_time(archives: Archives) -> None:
    options = {"split": "train", "streaming": True}
    first = contents(imagenet2012.load(archives.folder, **options))
    assert contents(imagenet2012.load(archives.folder, order="mixed", **options)) == first
    assert [row[0] for row in first] != list(archives.expected["train"])
