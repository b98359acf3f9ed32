"""Loading in every way, on every supported version of `datasets`: the right rows come out."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import fakes
import layouts
import pytest
from conftest import ROOT, Archives, ended, run_python, start_python
from datasets.distributed import split_dataset_by_node
from layouts import TEST, TRAIN, VAL
from packaging.version import Version

import imagenet2012
from imagenet2012 import load
from rows import by_class, by_name, contents, undecoded, wanted

SCRIPTS = pytest.mark.skipif(
    Version(datasets.__version__) >= Version("4"), reason="datasets 4 and later do not run scripts"
)
ORDERS = pytest.mark.parametrize("order", ["archive", "mixed"])


def check(loaded: Any, archives: Archives, *splits: str) -> None:
    assert tuple(loaded) == (splits or ("train", "validation", "test"))
    for split, rows in loaded.items():
        assert sorted(contents(rows)) == wanted(archives.expected[split]), split


def made(cache: dict[str, Any]) -> list[str]:
    """Return the names of the Arrow files in a cache."""
    return sorted(path.name for path in Path(cache["cache_dir"]).rglob("*.arrow"))


# ------------------------------------------------------------------------- the ways to load


def as_script(folder: Path, name: str = "default", **options: Any) -> Any:
    options |= {"data_dir": str(folder), "trust_remote_code": True}
    return datasets.load_dataset(str(ROOT / "imagenet2012.py"), name, **options)


WAYS: dict[str, Callable[..., Any]] = {
    "copy": load,
    "copy by two": partial(load, num_proc=2),
    "in place": partial(load, name="in_place"),
    "in place by two": partial(load, name="in_place", num_proc=2),
    "stream": partial(load, streaming=True, order="archive"),
    "mixed stream": partial(load, streaming=True),
    "stream in place": partial(load, name="in_place", streaming=True, order="archive"),
    "mixed stream in place": partial(load, name="in_place", streaming=True, order="mixed"),
    "copy by name": by_name,
    "in place by name": partial(by_name, name="in_place"),
    "stream by name": partial(by_name, streaming=True),
    "copy by class": by_class,
    "copy as script": as_script,
    "in place as script": partial(as_script, name="in_place"),
    "stream as script": partial(as_script, streaming=True),
}
EXTRACTED = (layouts.class_tars, layouts.class_folders, layouts.kaggle)
ODD = (layouts.half_sorted, layouts.half_extracted, layouts.links)
MATRIX = [(layout, way) for layout in (None, *EXTRACTED) for way in WAYS]
MATRIX += [(layout, way) for layout in ODD for way in ("copy", "in place", "mixed stream")]


@pytest.fixture(scope="module")
def folders(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """The images in each layout, of which None is that of the archives."""
    top = tmp_path_factory.mktemp("layouts")
    made = {one: one(archives.folder, top / one.__name__) for one in (*EXTRACTED, *ODD)}
    return {None: archives.folder, **made}


@pytest.mark.parametrize(
    ("layout", "way"),
    [pytest.param(*pair, marks=SCRIPTS if "script" in pair[1] else []) for pair in MATRIX],
)
def test_the_rows(
    layout: Any, way: str, folders: dict[Any, Path], archives: Archives, cache: dict[str, Any]
) -> None:
    loaded = WAYS[way](folders[layout], **cache)
    check(loaded, archives)
    assert bool(made(cache)) != ("stream" in way), "a stream writes nothing"
    row = next(iter(loaded["train"]))
    assert row["image"].mode == "RGB" and row["file_name"].endswith(".JPEG")


@SCRIPTS
def test_a_script_far_from_the_repository(archives: Archives, tmp_path: Path) -> None:
    """The script finds its tables without the package, from any working directory."""
    code = """import sys, datasets
sys.path.remove('')
d = datasets.load_dataset(sys.argv[1], data_dir=sys.argv[2], trust_remote_code=True,
    verification_mode='no_checks', label_names='wnid', split='train')
print(d.num_rows, d.features['label'].names[0])"""
    variables = {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ""}
    script = ROOT / "imagenet2012.py"
    done = run_python(code, script, archives.folder, cwd=tmp_path, **variables)
    assert done.stdout.split() == ["60", "n01440764"], done.stderr


# ------------------------------------------------------------------------- where the archives are


def test_paths_of_every_form(
    archives: Archives, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    home, name = archives.folder.parent, archives.folder.name
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    for folder in (f"~/{name}", name, f"./{name}/", archives.folder, Path("~") / name):
        for way in (load, by_name):
            assert way(folder, split="test", **cache).num_rows == 7
    monkeypatch.chdir(archives.folder)
    check(by_name(None, **cache), archives)


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_strange_folders(
    config: str, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    folder = tmp_path.joinpath("a b", "50% #1?", "x::y", "träin 图", "[a]*{b}", "d" * 200)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(archives.folder)
    check(load(folder, config, **cache), archives)
    check(load(folder, config, streaming=True), archives)


@pytest.mark.parametrize("way", [load, by_name])
def test_data_files(
    way: Any, folders: Any, archives: Archives, tmp_path: Path, cache: Any, monkeypatch: Any
) -> None:
    """They win over the folder, in which relative ones lie, whatever they are called."""
    (tmp_path / "my copy.bin").symlink_to(archives.folder / VAL)
    (tmp_path / TRAIN).write_bytes(b"another")
    tree = folders[layouts.class_folders] / "val"
    for found in ("my copy.bin", tmp_path / "my copy.bin", tree):
        loaded = way(tmp_path, data_files={"validation": str(found)}, **cache)
        check(loaded, archives, "validation")
    monkeypatch.chdir(archives.folder)
    for files in (TEST, str(archives.folder / TEST), {"test": TEST}):  # by what it holds
        check(way(None, data_files=files, **cache), archives, "test")


# ------------------------------------------------------------------------- splits


def test_split_expressions(archives: Archives, cache: dict[str, Any]) -> None:
    """They share the copies of their splits, and only what is asked for is prepared."""
    names = {split: list(rows) for split, rows in archives.expected.items()}
    both = load(archives.folder, split="validation[:4]+train[5:7]", **cache)
    assert made(cache) == ["imagenet2012-train.arrow", "imagenet2012-validation.arrow"]
    assert both["file_name"][:] == names["validation"][:4] + names["train"][5:7]
    assert str(both.split) == "validation[:4]+train[5:7]" and both[5]["image"].mode == "RGB"
    for split, expected in {
        "train+validation": names["train"] + names["validation"],
        "validation[10%:20%]": names["validation"][9:18],
        datasets.ReadInstruction("train", to=25, unit="%"): names["train"][:15],
    }.items():
        assert load(archives.folder, split=split, **cache)["file_name"][:] == expected
    assert len(made(cache)) == 2
    several = load(archives.folder, split=["train[:3]", "test"], **cache)
    assert [rows.num_rows for rows in several] == [3, 7] and len(made(cache)) == 3
    assert load(archives.folder, split="all", **cache).num_rows == 157


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("split", "val", "no split 'val'"),
        ("split", "train+validaton", "no split 'validaton'"),
        ("split", "train[:a]", "Unrecognized"),
        ("split", ["train", "tset"], "no split 'tset'"),
        ("order", "mixed", "is for streams"),
        ("order", "shuffled", "order is archive or mixed, not 'shuffled'"),
        ("orders", "mixed", "doesn't have a 'orders' key"),
        ("label_names", "word", "label_names is words or wnid, not 'word'"),
        ("name", "inplace", r"'inplace' not found. Available: \['default', 'in_place'\]"),
    ],
)
def test_what_cannot_be_meant_is_told_before_the_work(
    option: str, value: Any, words: str, archives: Archives, cache: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=words):
        load(archives.folder, **{option: value}, **cache)
    assert not made(cache)


# ------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("streaming", [False, True])
def test_features(streaming: bool, archives: Archives, cache: dict[str, Any]) -> None:
    """The labels are the same under other names."""
    options = {"split": "train", "streaming": streaming, **cache}
    words = load(archives.folder, **options)
    wnids = load(archives.folder, label_names="wnid", **options)
    assert list(words.features) == ["file_name", "image", "label"]
    assert words.features["file_name"] == datasets.Value("string")
    assert words.features["image"] == datasets.Image(mode="RGB")
    assert words.features["label"].num_classes == 1000
    assert words.features["label"].int2str(0) == "tench, Tinca tinca"
    assert wnids.features["label"].names == list(imagenet2012.WNIDS)
    assert str(words.info.version) == "5.0.0" and "ILSVRC15" in words.info.citation
    assert words.info.supervised_keys.output == "label"
    for one, other in zip(undecoded(words), undecoded(wnids), strict=True):
        assert one["label"] == other["label"]
        assert one["file_name"].startswith(imagenet2012.WNIDS[one["label"]])


def test_validation_labels_go_by_number(tmp_path: Path, cache: dict[str, Any]) -> None:
    """Whatever subset there is, in whatever order and folders."""
    members = fakes.flat_images("val", 39, seed=9)
    placed = zip(["", "val/", "./ILSVRC/val/"] * 13, members, strict=True)
    (tmp_path / VAL).write_bytes(fakes.tar((folder + n, d) for folder, (n, d) in placed))
    loaded = load(tmp_path, split="validation", **cache)
    assert loaded["file_name"][:] == [name for name, _ in members]
    assert loaded["label"][:] == [fakes.validation_label(int(n[15:23])) for n, _ in members]


def test_bytes_are_kept_beside_files_of_the_same_names(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    """Where `datasets` encodes a row, it would store the path of such a file, not the bytes."""
    monkeypatch.chdir(tmp_path)
    expected = archives.expected["train"]
    for name in expected:
        for folder in (Path(), Path(name.split("_")[0] + ".tar"), Path("train")):
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"not this")
    for streaming in (False, True):
        for row in undecoded(load(archives.folder, split="train", streaming=streaming, **cache)):
            encoded = datasets.Image().encode_example(row["image"])
            assert encoded["bytes"] == expected[row["file_name"]].data


@pytest.mark.parametrize(
    ("config", "options", "room"),
    [
        ("in_place", {"num_proc": 3}, 1 << 27),
        ("default", {"num_proc": 13}, 1 << 27),  # there are 12 classes
        ("default", {"writer_batch_size": 1}, 1 << 27),
        ("default", {"writer_batch_size": 7}, 3_000),  # bytes of a table
        ("default", {"writer_batch_size": 1_000}, 1),
    ],
)
def test_what_is_prepared_is_in_the_order_of_the_archives(
    config: str,
    options: dict[str, int],
    room: int,
    archives: Archives,
    cache: Any,
    monkeypatch: Any,
) -> None:
    """By any number of processes, in tables of any size."""
    monkeypatch.setattr(imagenet2012.tables, "MAX_TABLE_BYTES", room)
    loaded = load(archives.folder, config, **options, **cache)
    for split, expected in archives.expected.items():
        assert contents(loaded[split]) == [(name, *image) for name, image in expected.items()]


LOADING = """
import multiprocess, operator, sys
multiprocess.set_start_method('spawn', force=True)
import imagenet2012
if __name__ == '__main__' or sys.argv[2] == 'unguarded':
    options = {'split': 'train', 'num_proc': 2, 'verification_mode': 'no_checks'}
    rows = imagenet2012.load(sys.argv[1], 'in_place', **options)
if __name__ == '__main__':
    (row,) = multiprocess.Pool(1).map(operator.itemgetter(59), [rows])
    print(row['image'].mode)
"""


def test_num_proc_under_spawn(archives: Archives, tmp_path: Path) -> None:
    """In a script that its processes run again it says what is missing, unless it was prepared."""
    program = tmp_path / "program.py"
    program.write_text(LOADING)
    home = str(tmp_path / "home")
    for way, printed in (("unguarded", ""), ("guarded", "RGB\n"), ("unguarded", "RGB\n")):
        done = ended(start_python(program, archives.folder, way, HF_HOME=home))
        assert done.stdout == printed, done.stderr
        assert ('if __name__ == "__main__":' in done.stderr) == (not printed)


# ------------------------------------------------------------------------- streams


def streamed(archives: Archives, order: str | None = None, split: str = "train") -> Any:
    return undecoded(load(archives.folder, split=split, streaming=True, order=order))


def names_of(stream: Any) -> list[str]:
    return [row["file_name"] for row in stream]


def test_streams_are_of_whole_splits(archives: Archives) -> None:
    train, test = load(archives.folder, split=["train", "test"], streaming=True)
    assert (train.n_shards, test.n_shards) == (1, 128)  # of small class tars fewer are worth it
    assert names_of(streamed(archives, split="train+test")) == names_of(train) + names_of(test)
    with pytest.raises(ValueError, match=r"of whole splits, not of train\[:10\]"):
        streamed(archives, split="train[:10]")


def test_rows_of_a_stream_are_taken_as_they_are(archives: Archives) -> None:
    """Unless somebody changed them, or wants them otherwise."""
    stream = load(archives.folder, split="train", streaming=True)
    row = {"file_name": "a.JPEG", "image": {"path": "a.JPEG", "bytes": b"x"}, "label": 0}
    assert stream.features.encode_example({**row, "label": "tench, Tinca tinca"}) == row
    texts = undecoded(stream.cast_column("label", datasets.Value("string")))
    assert {row["label"] for row in texts} == {str(label) for label in range(12)}


@pytest.mark.skipif(not hasattr(datasets.IterableDataset, "state_dict"), reason="not in 3.0")
@ORDERS
def test_a_stream_resumes(order: str, archives: Archives) -> None:
    for stop in (0, 1, 17, 59):
        first, second = streamed(archives, order), streamed(archives, order)
        names, iterator = names_of(second), iter(first)
        seen = [next(iterator)["file_name"] for _ in range(stop)]
        second.load_state_dict(first.state_dict())
        assert seen + names_of(second) == names


@ORDERS
@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_every_node_gets_its_part(world_size: int, order: str, archives: Archives) -> None:
    stream = streamed(archives, order)
    parts = [split_dataset_by_node(stream, rank, world_size) for rank in range(world_size)]
    assert sorted(name for part in parts for name in names_of(part)) == sorted(
        archives.expected["train"]
    )


def test_mixed_order_mixes_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all 1000 classes, in regions of ten images of a class, as there are of 1300 in 128."""
    images = {
        wnid: [(f"{wnid}_{k * 3 + 1}.JPEG", b"x" * (200 + k * 37 % 900)) for k in range(130)]
        for wnid in fakes.wnids()
    }
    (tmp_path / TRAIN).write_bytes(fakes.train_tar(images))
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 13)
    monkeypatch.setattr(imagenet2012.rows, "MIN_REGION_BYTES", 1)
    stream = undecoded(load(tmp_path, split="train", streaming=True))
    labels = [row["label"] for row in stream.take(9000)]
    for start in range(0, 8000, 500):
        assert len(set(labels[start : start + 1000])) >= 900
    assert len(set(labels[:256])) > 200 and max(Counter(labels[:256]).values()) <= 2
    rows = iter(stream.shuffle(seed=0))
    for _ in range(3):
        assert len({next(rows)["label"] for _ in range(256)}) >= 200


def test_mixed_order_is_the_default_and_the_same_each_time(archives: Archives) -> None:
    first = names_of(streamed(archives))
    assert names_of(streamed(archives, "mixed")) == first != list(archives.expected["train"])
