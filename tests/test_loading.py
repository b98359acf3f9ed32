"""Loading in every way, on every supported version of `datasets`: the right rows come out."""

import errno
import gc
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fakes
import fsspec
import pyarrow.parquet as pq
import pytest
from conftest import HANG, ROOT, Archives, patch_os
from packaging.version import Version

import imagenet2012
from rows import contents, undecoded, wanted

pytestmark = pytest.mark.loading
DATASETS = Version(datasets.__version__)
SCRIPTS_RUN = Version("4") > DATASETS
SPLITS = ("train", "validation", "test")


def check(loaded: Any, archives: Archives) -> None:
    assert list(loaded) == list(SPLITS)
    for split in SPLITS:
        assert sorted(contents(loaded[split])) == wanted(archives.expected[split]), split


def num_shards(stream: Any) -> int:
    return stream.num_shards if hasattr(stream, "num_shards") else stream.n_shards


# ------------------------------------------------------------------------- the ways to load


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_load_dataset_by_name(config: str, archives: Archives, cache: dict[str, Any]) -> None:
    loaded = datasets.load_dataset("imagenet2012", config, data_dir=str(archives.folder), **cache)
    check(loaded, archives)


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_load(config: str, archives: Archives, cache: dict[str, Any]) -> None:
    check(imagenet2012.load(archives.folder, config, **cache), archives)


def test_builder_class(archives: Archives, tmp_path: Path) -> None:
    builder = imagenet2012.Imagenet2012(data_dir=archives.folder, cache_dir=str(tmp_path))
    builder.download_and_prepare(verification_mode="no_checks")
    check(builder.as_dataset(), archives)


@pytest.mark.skipif(not SCRIPTS_RUN, reason="datasets 4 and later do not run scripts")
@pytest.mark.parametrize("config", ["default", "in_place"])
def test_script(config: str, archives: Archives, cache: dict[str, Any]) -> None:
    script = str(ROOT / "imagenet2012.py")
    options = {"data_dir": str(archives.folder), "trust_remote_code": True, **cache}
    check(datasets.load_dataset(script, config, **options), archives)
    assert len(list(datasets.load_dataset(script, config, streaming=True, split="test", **options)))


@pytest.mark.skipif(not SCRIPTS_RUN, reason="datasets 4 and later do not run scripts")
def test_script_far_from_the_repository(archives: Archives, tmp_path: Path) -> None:
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


@pytest.mark.skipif(not SCRIPTS_RUN, reason="datasets 4 and later do not run scripts")
def test_script_reads_no_urls(archives: Archives, cache: dict[str, Any]) -> None:
    name = "ILSVRC2012_img_val.tar"
    fsspec.filesystem("memory").pipe(f"/script/{name}", (archives.folder / name).read_bytes())
    files = {"validation": f"memory://script/{name}"}
    with pytest.raises(ValueError, match=r"Install the package imagenet2012"):
        datasets.load_dataset(
            str(ROOT / "imagenet2012.py"), data_files=files, trust_remote_code=True, **cache
        )


def test_data_files_decide_the_splits(archives: Archives, cache: dict[str, Any]) -> None:
    path = str(archives.folder / "ILSVRC2012_img_val.tar")
    for loaded in (
        datasets.load_dataset("imagenet2012", data_files={"validation": path}, **cache),
        imagenet2012.load(data_files={"validation": path}, **cache),
    ):
        assert list(loaded) == ["validation"]
        assert sorted(contents(loaded["validation"])) == wanted(archives.expected["validation"])


@pytest.mark.parametrize("form", [str, Path, lambda path: [path], lambda path: {"test": path}])
def test_data_files_of_every_form(
    form: Any, archives: Archives, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    """By what they hold if no split is given; relative ones lie in the folder, if one is given."""
    name = "ILSVRC2012_img_test_v10102019.tar"
    loaded = imagenet2012.load(data_files=form(str(archives.folder / name)), **cache)
    assert list(loaded) == ["test"]
    assert list(imagenet2012.load(archives.folder, data_files=form(name), **cache)) == ["test"]
    monkeypatch.chdir(archives.folder)
    assert list(imagenet2012.load(data_files=form(name), **cache)) == ["test"]
    several = imagenet2012.load(archives.folder, data_files="ILSVRC2012_img_[tv]*.tar", **cache)
    assert list(several) == ["train", "validation", "test"]


@pytest.mark.parametrize("load", [imagenet2012.load, datasets.load_dataset])
def test_data_files_win_over_the_folder(
    load: Any, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    options = {"data_dir": str(archives.folder), **cache}
    if load is datasets.load_dataset:
        options["path"] = "imagenet2012"
    expected = fakes.make_archives(tmp_path / "other", classes=0, validation=8)["validation"]
    path = tmp_path / "other" / "ILSVRC2012_img_val.tar"
    for name in ("ILSVRC2012_img_val.tar", "subset.tar"):
        path = path.rename(path.with_name(name))
        loaded = load(data_files={"validation": str(path)}, **options)
        assert list(loaded) == ["validation"]
        assert sorted(contents(loaded["validation"])) == wanted(expected)


def test_data_files_of_any_name(archives: Archives, tmp_path: Path, cache: dict[str, Any]) -> None:
    path = tmp_path / "my copy.bin"
    path.symlink_to(archives.folder / "ILSVRC2012_img_train.tar")
    loaded = imagenet2012.load(data_files={"train": path}, split="train", **cache)
    assert sorted(contents(loaded)) == wanted(archives.expected["train"])
    loaded = datasets.load_dataset("imagenet2012", data_files={"train": str(path)}, **cache)
    assert sorted(contents(loaded["train"])) == wanted(archives.expected["train"])


def test_a_pattern_beside_the_folder_saves_the_scan(
    archives: Archives, cache: dict[str, Any]
) -> None:
    """The README recommends this where the folder also holds extracted images."""
    folder, pattern = str(archives.folder), "ILSVRC2012_img_*.tar"
    check(
        datasets.load_dataset("imagenet2012", data_dir=folder, data_files=pattern, **cache),
        archives,
    )


def test_only_the_split_asked_for_is_prepared(archives: Archives, cache: dict[str, Any]) -> None:
    loaded = imagenet2012.load(archives.folder, split="validation[:10]", **cache)
    assert loaded.num_rows == 10
    made = {path.name for path in Path(cache["cache_dir"]).rglob("*.arrow")}
    assert made == {"imagenet2012-validation.arrow"}


def test_splits_are_not_prepared_twice(archives: Archives, cache: dict[str, Any]) -> None:
    """Whether by one or together, `load` writes a split once."""

    def made() -> list[Path]:
        return sorted(Path(cache["cache_dir"]).rglob("*.arrow"))

    imagenet2012.load(archives.folder, split="train", **cache)
    imagenet2012.load(archives.folder, **cache)
    first = made()
    assert len(first) == 3
    imagenet2012.load(archives.folder, split="train", **cache)
    imagenet2012.load(archives.folder, split="test", **cache)
    assert made() == first


def test_load_uses_what_load_dataset_prepared(archives: Archives, cache: dict[str, Any]) -> None:
    datasets.load_dataset("imagenet2012", data_dir=str(archives.folder), **cache)
    before = sorted(Path(cache["cache_dir"]).rglob("*.arrow"))
    imagenet2012.load(archives.folder, split="train", **cache)
    imagenet2012.load(archives.folder, **cache)
    assert sorted(Path(cache["cache_dir"]).rglob("*.arrow")) == before


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


@pytest.mark.parametrize("split", ["val", "train+validaton", "train[:a]", ["train", "tset"]])
def test_a_misspelt_split_is_told_before_the_work(
    split: Any, archives: Archives, cache: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"no split '|Unrecognized"):
        imagenet2012.load(archives.folder, split=split, **cache)
    assert not list(Path(cache["cache_dir"]).rglob("*.arrow"))


def test_expressions_share_the_caches_of_their_splits(
    archives: Archives, cache: dict[str, Any]
) -> None:
    def made() -> int:
        return len(list(Path(cache["cache_dir"]).rglob("*.arrow")))

    both = imagenet2012.load(archives.folder, split="validation[:4]+train[5:7]", **cache)
    assert made() == 2
    expected = [*list(archives.expected["validation"])[:4], *list(archives.expected["train"])[5:7]]
    assert both["file_name"][:] == expected
    assert str(both.split) == "validation[:4]+train[5:7]"
    assert both[5]["image"].mode == "RGB"
    imagenet2012.load(archives.folder, split=["train", "validation[50%:]"], **cache)
    assert made() == 2


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


def test_missing_data_dir_means_the_working_directory(
    archives: Archives, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    monkeypatch.chdir(archives.folder)
    check(datasets.load_dataset("imagenet2012", **cache), archives)


@pytest.mark.parametrize("config", ["default", "in_place"])
@pytest.mark.parametrize("name", ["a b", "50% #1?", "x::y", "träin 图", "[a]*{b}", "d" * 200])
def test_strange_folders(
    name: str, config: str, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for archive in archives.folder.iterdir():
        (folder / archive.name).symlink_to(archive)
    check(imagenet2012.load(folder, config, **cache), archives)
    check(imagenet2012.load(folder, config, streaming=True), archives)


# ------------------------------------------------------------------------- what comes out


def test_features(archives: Archives, cache: dict[str, Any]) -> None:
    loaded = imagenet2012.load(archives.folder, split="train", **cache)
    assert list(loaded.features) == ["file_name", "image", "label"]
    assert loaded.features["file_name"] == datasets.Value("string")
    assert loaded.features["image"] == datasets.Image(mode="RGB")
    assert loaded.features["label"].num_classes == 1000
    assert str(loaded.info.version) == "5.0.0"
    assert "ILSVRC15" in loaded.info.citation
    assert loaded.info.homepage == "https://image-net.org/"
    keys = loaded.info.supervised_keys
    assert (keys.input, keys.output) == ("image", "label")


def test_label_names(archives: Archives, cache: dict[str, Any]) -> None:
    words = imagenet2012.load(archives.folder, split="train", **cache)
    wnids = imagenet2012.load(archives.folder, split="train", label_names="wnid", **cache)
    assert words.features["label"].int2str(0) == "tench, Tinca tinca"
    assert wnids.features["label"].names == list(imagenet2012.WNIDS)
    assert words["label"][:] == wnids["label"][:]
    for name, label in zip(words["file_name"], words["label"], strict=True):
        assert name.startswith(imagenet2012.WNIDS[label])


def test_bytes_are_kept_beside_files_of_the_same_names(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    """`datasets` would store the path of such a file instead of the bytes."""
    monkeypatch.chdir(tmp_path)
    for name in archives.expected["train"]:
        for folder in (Path(), Path(name.split("_")[0] + ".tar"), Path("train")):
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"not this")
    loaded = imagenet2012.load(archives.folder, split="train", **cache)
    assert sorted(contents(loaded)) == wanted(archives.expected["train"])


def test_archive_order(archives: Archives, cache: dict[str, Any]) -> None:
    for split in SPLITS:
        loaded = imagenet2012.load(archives.folder, split=split, **cache)
        assert loaded["file_name"][:] == list(archives.expected[split])


@pytest.mark.parametrize("order", ["archive", "mixed"])
@pytest.mark.parametrize("room", [1, 3_000, 100_000])
def test_tables_with_room_for_none_some_and_all_images(
    room: int,
    order: str,
    archives: Archives,
    cache: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imagenet2012.imagenet2012, "BUFFER_BYTES", room)
    check(imagenet2012.load(archives.folder, order=order, writer_batch_size=7, **cache), archives)


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system has no preadv")
@pytest.mark.parametrize("most", [0, 1_000])
def test_reads_that_fail_or_bring_less(
    most: int, archives: Archives, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a signal or a network file system: what is missing is read again."""
    preadv = os.preadv

    def poor(fd: int, rooms: list[memoryview], offset: int) -> int:
        if not most:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(fd, [rooms[0][:most]], offset)

    patch_os(monkeypatch, "preadv", poor)
    check(imagenet2012.load(archives.folder, **cache), archives)


def test_one_item_is_made_ahead() -> None:
    made, used = [threading.Event() for _ in range(9)], 0

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    ahead = imagenet2012.arrow_tables.prefetched(items(), threading.Event())
    for used, number in enumerate(ahead):
        assert number == used
        assert used == 8 or made[used + 1].wait(HANG), "nothing is made while an item is used"
        assert not any(event.is_set() for event in made[used + 2 :]), "memory could fill up"
        if used == 5:
            break
    ahead.close()
    assert not any(
        thread.name.startswith("imagenet2012-prefetch") for thread in threading.enumerate()
    )


@pytest.mark.parametrize("was_on", [True, False])
def test_garbage_waits_for_the_next_table(was_on: bool) -> None:
    """The user's choice is left as it was, also after an error."""

    def items() -> Iterator[int]:
        for number in range(3):
            assert not gc.isenabled()
            yield number
        raise ValueError("broken")

    before = gc.isenabled()
    (gc.enable if was_on else gc.disable)()
    try:
        made = imagenet2012.arrow_tables.without_garbage_collection(items())
        with pytest.raises(ValueError, match="broken"):
            for _ in made:
                assert gc.isenabled() == was_on
        assert gc.isenabled() == was_on
    finally:
        (gc.enable if before else gc.disable)()


def test_leaving_waits_for_one_image_not_for_a_table(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Ctrl-C, or a full disk, while a slow network file system is read."""
    reads = []
    read_into = imagenet2012.storage.Archive.read_into

    def slow(self: imagenet2012.storage.Archive, offset: int, room: memoryview) -> None:
        reads.append(offset)
        if len(reads) > 20:
            time.sleep(0.1)
        read_into(self, offset, room)

    monkeypatch.setattr(imagenet2012.storage.Archive, "read_into", slow)
    builder = imagenet2012.Imagenet2012(
        data_dir=archives.folder, cache_dir=str(tmp_path), writer_batch_size=20
    )
    tables = builder._generate_tables(
        **builder._gen_kwargs("train", f"{archives.folder}/ILSVRC2012_img_train.tar", "archive")
    )
    assert len(next(tables)[1]) == 20
    tables.close()
    assert len(reads) < 40


@pytest.mark.parametrize("order", ["archive", "mixed"])
@pytest.mark.parametrize("num_proc", [2, 3, 12])
def test_num_proc_changes_nothing(
    num_proc: int, order: str, archives: Archives, cache: dict[str, Any]
) -> None:
    options = {"order": order, **cache}
    one = imagenet2012.load(archives.folder, **options)
    again = {**options, "download_mode": "force_redownload"}
    many = imagenet2012.load(archives.folder, num_proc=num_proc, **again)
    for split in SPLITS:
        assert contents(one[split]) == contents(many[split])


def test_more_processes_than_shards(archives: Archives, cache: dict[str, Any]) -> None:
    loaded = imagenet2012.load(archives.folder, split="train", num_proc=30, **cache)
    assert loaded["file_name"][:] == list(archives.expected["train"])


def test_num_proc_under_spawn(archives: Archives, tmp_path: Path) -> None:
    code = (
        "import multiprocess, os, signal, sys\n"
        "pread = os.pread\n"
        "def interrupted(*args):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return pread(*args)\n"
        "if __name__ != '__main__':\n"
        "    os.pread = interrupted\n"
        "else:\n"
        "    signal.signal(signal.SIGINT, lambda *_: None)  # it notes Ctrl-C, and does not end\n"
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


# ------------------------------------------------------------------------- streaming


@pytest.mark.parametrize("order", ["archive", "mixed"])
@pytest.mark.parametrize("config", ["default", "in_place"])
def test_streaming(config: str, order: str, archives: Archives) -> None:
    options = {"streaming": True, "order": order, "data_dir": str(archives.folder)}
    check(datasets.load_dataset("imagenet2012", config, **options), archives)
    check(imagenet2012.load(options.pop("data_dir"), config, **options), archives)


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_rows_of_a_stream_are_taken_as_they_are(config: str, archives: Archives) -> None:
    """Unless somebody changed them, or wants them otherwise."""
    stream = imagenet2012.load(archives.folder, config, split="train", streaming=True)
    _, row = next(iter(stream._ex_iterable))
    features = stream.features
    assert features.encode_example(row) is row
    changed = {**row, "label": "tench, Tinca tinca", "image": dict(row["image"])}
    assert features.encode_example(changed)["label"] == 0
    features["label"] = datasets.Value("string")
    assert features.encode_example(row)["label"] == str(row["label"])
    texts = stream.cast_column("label", datasets.Value("string"))
    assert next(iter(undecoded(texts)))["label"] == str(row["label"])


def test_streaming_takes_whole_splits(archives: Archives) -> None:
    options = {"streaming": True, "verification_mode": "no_checks"}
    train, test = imagenet2012.load(archives.folder, split=["train", "test"], **options)
    assert len(list(undecoded(train))) == 60 and len(list(undecoded(test))) == 7
    for split in ("train[:10]", "train+test"):
        with pytest.raises(ValueError, match=r"of a whole split, not of train.*take\(\) and skip"):
            imagenet2012.load(archives.folder, split=split, **options)


def test_written_elsewhere(archives: Archives, tmp_path: Path) -> None:
    """As Parquet, to what `fsspec` can write to."""
    builder = imagenet2012.Imagenet2012(data_dir=archives.folder, cache_dir=str(tmp_path))
    builder.download_and_prepare(
        "memory://written", file_format="parquet", verification_mode="no_checks"
    )
    files = fsspec.filesystem("memory").glob("/written/*train*.parquet")
    assert files
    rows = [
        r for f in files for r in pq.read_table(fsspec.open(f"memory://{f}").open()).to_pylist()
    ]
    assert sorted(r["file_name"] for r in rows) == sorted(archives.expected["train"])


def test_a_prepared_copy_serves_a_builder_whose_archives_go(tmp_path: Path) -> None:
    """They were there when it was made; to check them they must be."""
    folder = tmp_path / "archives"
    fakes.make_archives(folder, classes=2, validation=5)
    options = {"data_dir": str(folder), "cache_dir": str(tmp_path / "cache")}
    first, second = (imagenet2012.Imagenet2012(**options) for _ in range(2))
    first.download_and_prepare(verification_mode="no_checks")
    folder.rename(tmp_path / "elsewhere")
    second.download_and_prepare(verification_mode="no_checks")
    assert second.as_dataset()["validation"].num_rows == 5


def test_an_empty_folder_name_is_no_folder() -> None:
    with pytest.raises(ValueError, match="is a variable unset"):
        imagenet2012.load("")


def test_streaming_writes_nothing(archives: Archives, tmp_path: Path) -> None:
    stream = imagenet2012.load(archives.folder, streaming=True, cache_dir=str(tmp_path / "cache"))
    assert len(list(stream["train"])) == 60
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".arrow"]


def test_streaming_shards(tmp_path: Path) -> None:
    fakes.make_archives(tmp_path, classes=1000, per_class=1, validation=5)
    stream = imagenet2012.load(tmp_path, streaming=True, order="archive")
    assert num_shards(stream["train"]) == 1000
    assert num_shards(stream["validation"]) >= 64


@pytest.mark.parametrize(("image_bytes", "shards"), [(110_000, 128), (11_000, 58), (1_000, 7)])
def test_mixed_shards_are_worth_their_search(
    image_bytes: int, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 of full class tars; fewer of small ones, where most would have no image of a class."""
    path = tmp_path / "ILSVRC2012_img_train.tar"
    with path.open("wb") as file:  # sparse: only headers are written
        for wnid in fakes.wnids()[:3]:
            member = 512 + image_bytes + -image_bytes % 512
            size = 1300 * member + 1024
            file.write(fakes.header(f"{wnid}.tar", size))
            end = file.tell() + size + -size % 512
            for number in range(1300):
                file.write(fakes.header(f"{wnid}_{number}.JPEG", image_bytes))
                file.seek(member - 512, os.SEEK_CUR)
            file.seek(end)
        file.truncate(file.tell() + 1024)
    stream = imagenet2012.load(tmp_path, split="train", streaming=True)
    assert num_shards(stream) == shards
    archive = imagenet2012.load(tmp_path, split="train", streaming=True, order="archive")
    assert num_shards(archive) == 3


@pytest.mark.skipif(not hasattr(datasets.IterableDataset, "state_dict"), reason="not in 3.0")
@pytest.mark.parametrize("order", ["archive", "mixed"])
@pytest.mark.parametrize("stop", [0, 1, 17, 59])
def test_streaming_resumes(stop: int, order: str, archives: Archives) -> None:
    def stream() -> Any:
        loaded = imagenet2012.load(archives.folder, split="train", streaming=True, order=order)
        return undecoded(loaded)

    names = [row["file_name"] for row in stream()]
    first = stream()
    iterator = iter(first)
    seen = [next(iterator)["file_name"] for _ in range(stop)]
    second = stream()
    second.load_state_dict(first.state_dict())
    assert seen + [row["file_name"] for row in second] == names


@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("order", ["archive", "mixed"])
def test_every_node_gets_its_part(world_size: int, order: str, archives: Archives) -> None:
    from datasets.distributed import split_dataset_by_node

    stream = undecoded(
        imagenet2012.load(archives.folder, split="train", streaming=True, order=order)
    )
    parts = [split_dataset_by_node(stream, rank, world_size) for rank in range(world_size)]
    names = [row["file_name"] for part in parts for row in part]
    assert sorted(names) == sorted(archives.expected["train"])


# ------------------------------------------------------------------------- mixed order


def big_classes(folder: Path, classes: int, per_class: int) -> None:
    """Write a training archive of many tiny members; what they hold is no matter here."""
    images = {
        wnid: [(f"{wnid}_{k * 3 + 1}.JPEG", b"x" * (200 + k * 37 % 900)) for k in range(per_class)]
        for wnid in fakes.wnids()[:classes]
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(fakes.train_tar(images))


@pytest.fixture(scope="module")
def full_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 1000 classes, with regions of about ten images each as in the original."""
    folder = tmp_path_factory.mktemp("full")
    big_classes(folder, 1000, 130)
    return folder


def test_mixed_runs_hold_nearly_all_classes(
    full_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 13)  # 10 images each, as 1300 of 128
    stream = imagenet2012.load(full_classes, split="train", streaming=True, order="mixed")
    rows = iter(undecoded(stream))
    labels = [next(rows)["label"] for _ in range(9000)]
    for start in range(0, 8000, 500):
        assert len(set(labels[start : start + 1000])) >= 900
    assert len(set(labels[:256])) > 200 and max(Counter(labels[:256]).values()) <= 2


def test_mixed_and_shuffled_batches_hold_many_classes(
    full_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 13)
    stream = imagenet2012.load(full_classes, split="train", streaming=True, order="mixed")
    for seed in range(3):
        rows = iter(undecoded(stream).shuffle(seed=seed))
        for _ in range(3):
            assert len({next(rows)["label"] for _ in range(256)}) >= 200


def test_mixed_is_deterministic(archives: Archives) -> None:
    options = {"split": "train", "streaming": True, "order": "mixed"}
    first = contents(imagenet2012.load(archives.folder, **options))
    assert contents(imagenet2012.load(archives.folder, **options)) == first
    assert [row[0] for row in first] != list(archives.expected["train"])


# ------------------------------------------------------------------------- labels by name


@pytest.mark.parametrize("folder", ["", "val/", "./ILSVRC/val/"])
def test_validation_labels_go_by_number(folder: str, tmp_path: Path, cache: dict[str, Any]) -> None:
    """Whatever subset there is, in whatever order."""
    members = fakes.flat_images("val", 37, seed=9)
    whole = fakes.tar([(folder + name, data) for name, data in members])
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(whole)
    loaded = imagenet2012.load(tmp_path, split="validation", **cache)
    assert loaded["file_name"][:] == [name for name, _ in members]
    assert loaded["label"][:] == [fakes.validation_label(int(n[15:23])) for n, _ in members]


def test_test_archive_under_its_other_name(
    archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    source = archives.folder / "ILSVRC2012_img_test_v10102019.tar"
    (tmp_path / "ILSVRC2012_img_test.tar").write_bytes(source.read_bytes())
    loaded = imagenet2012.load(tmp_path, **cache)
    assert list(loaded) == ["test"]
    assert set(loaded["test"]["label"]) == {-1}


@pytest.mark.parametrize("order", ["archive", "mixed"])
def test_data_loader_of_many_workers(order: str, archives: Archives) -> None:
    data = pytest.importorskip("torch.utils.data")
    stream = imagenet2012.load(archives.folder, split="train", streaming=True, order=order)
    loader = data.DataLoader(stream.select_columns("file_name"), batch_size=4, num_workers=8)
    names = [name for batch in loader for name in batch["file_name"]]
    assert sorted(names) == sorted(archives.expected["train"])
