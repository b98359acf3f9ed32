"""An index: a folder of Parquet, for every program, whose images stay in the archives."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import fakes
import fsspec
import hub_server
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from conftest import ROOT, Archives, patch_os

import imagenet2012
from imagenet2012 import ArchiveError, card
from imagenet2012_command import main
from rows import contents, undecoded, wanted

pytestmark = pytest.mark.loading
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TEST, OLD_TEST = "ILSVRC2012_img_test_v10102019.tar", "ILSVRC2012_img_test.tar"
Run = Callable[..., Result]


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMAGENET2012_DIR", raising=False)


@pytest.fixture
def make(archives: Archives, tmp_path: Path) -> Callable[..., Path]:
    """Return what makes an index in the folder `out` by the command."""

    def make(*options: object, folder: Path = archives.folder) -> Path:
        output = tmp_path / "out"
        common = ("--no-checks", "--num-proc", 1, "--in-place", "--output", output)
        result = run("prepare", folder, *common, *options)
        assert result.exit_code == 0, result.output
        return output

    return make


Make = Callable[..., Path]


@pytest.fixture
def forge(make: Make) -> Callable[[str], Any]:
    """Return what makes an index with one row, whose URL is the given one, and loads its image."""

    def forge(url: str) -> bytes:
        (shard, *_) = sorted(make("--split", "validation").glob("data/*.parquet"))
        table = pq.read_table(shard).slice(0, 1)
        image = pa.array([{"bytes": None, "path": url}], table.schema.field("image").type)
        for other in shard.parent.glob("*.parquet"):
            other.unlink()
        pq.write_table(table.set_column(1, table.schema.field("image"), image), shard)
        (shard.parent.parent / "README.md").unlink()
        data = datasets.load_dataset(str(shard.parent.parent), split="validation", streaming=True)
        return next(iter(data))["image"]

    return forge


# ------------------------------------------------------------------------- what is written

CLIENT = """
import sys, datasets
folder = sys.argv[1]
loaded = datasets.load_dataset(folder)
assert loaded["train"][0]["image"].mode == "RGB"
streamed = datasets.load_dataset(folder, split="train", streaming=True)
batch = [row["label"] for row, _ in zip(streamed.shuffle(seed=0, buffer_size=10), range(20))]
assert len(set(batch)) > 8, batch
one = datasets.load_dataset(folder, split="validation")
print({k: v.num_rows for k, v in loaded.items()}, one.num_rows, streamed.num_shards)
"""


@pytest.fixture
def client_env(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which this package is installed, and not imported."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "imagenet2012", site / "imagenet2012")
    shutil.copytree(ROOT / "labels", site / "labels")
    for module in ROOT.glob("*.py"):
        shutil.copy(module, site)
    info = site / "imagenet2012-5.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: imagenet2012\nVersion: 5.0.0\n")
    (info / "entry_points.txt").write_text(
        "[fsspec.specs]\nimagenet2012 = imagenet2012:Imagenet2012FileSystem\n"
    )
    return {**os.environ, "PYTHONPATH": str(site), "HF_HOME": str(tmp_path / "home")}


def client(env: dict[str, str], folder: Path) -> str:
    command = [sys.executable, "-c", CLIENT, str(folder)]
    done = subprocess.run(command, env=env, cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_other_programs_take_the_folder(make: Make, client_env: dict[str, str]) -> None:
    """By the line that they have for any dataset, and with an import of nothing of ours."""
    told = client(client_env, make("--shards", 4))
    assert told == "{'train': 60, 'validation': 90, 'test': 7} 90 4\n"


def test_the_rows_are_those_of_the_archives(make: Make, archives: Archives) -> None:
    loaded = datasets.load_dataset(str(make("--shards", 3)))
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(archives.expected[split])
        assert dataset.features == imagenet2012.Imagenet2012().info.features
        assert {row["image"]["bytes"] for row in undecoded(dataset)} == {None}
    labels = loaded["train"]["label"][:]
    assert labels != sorted(labels)


def test_shards_are_many_unless_told(make: Make) -> None:
    output = make("--split", "validation", "--split", "train")
    assert len(list(output.glob("data/validation-*.parquet"))) == 90, "no shard is empty"
    assert len(list(output.glob("data/train-*.parquet"))) == 60


def test_the_seed_decides_the_order(make: Make) -> None:
    orders = []
    for seed in (0, 1, 0):
        output = make("--split", "train", "--shards", 2, "--seed", seed)
        orders.append(datasets.load_dataset(str(output), split="train")["file_name"][:])
        shutil.rmtree(output)
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_the_card_says_what_it_is_and_needs(make: Make, archives: Archives) -> None:
    text = (make("--shards", 2) / "README.md").read_text()
    for words in (
        "**This is an index: it holds no images**",
        "the package `imagenet2012` 5.0.0 must be installed",
        f"`{archives.folder}/{TRAIN}` must be there.",
        f"The images stay in `{archives.folder}/{VAL}`",
        "| train | 60 | 2 |",
    ):
        assert words in text, text[-2000:]
    assert card.MARK in text


def test_the_card_of_one_that_may_travel(make: Make, archives: Archives) -> None:
    text = (make("--shards", 2, "--portable") / "README.md").read_text()
    assert f"`{TRAIN}` and `{VAL}` and `{TEST}` must be in the folder that the environment" in text
    assert "`IMAGENET2012_DIR`" in text and str(archives.folder) not in text


def test_official_counts_are_asked_for(archives: Archives, tmp_path: Path) -> None:
    result = run("prepare", archives.folder, "--in-place", "--output", tmp_path / "out")
    assert result.exit_code == 1 and "the original train archive has 147,897,477,120" in (
        result.output
    )
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------- again, and refused


def test_started_again_all_is_there(make: Make, archives: Archives, tmp_path: Path) -> None:
    output = make("--shards", 3)
    sound = {path: path.read_bytes() for path in output.glob("data/*.parquet")}
    (first, second, *_) = sorted(sound)
    first.unlink()
    second.write_bytes(b"damaged")
    assert make() == output, "the number of shards is that in the folder"
    assert {path: path.read_bytes() for path in output.glob("data/*.parquet")} == sound
    common = ("--no-checks", "--num-proc", 1, "--in-place", "--output", output)
    result = run("prepare", archives.folder, *common)
    assert "All of it was there, whole: no shard was written." in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--in-place", "--shards", "4"], "made with shards 3, not 4"),
        (["--in-place", "--portable"], f"{VAL}, not {VAL}. Nothing was changed"),
        (["--in-place", "--seed", "1"], "made with seed unset, not 1"),
        (["--in-place", "--label-names", "wnid"], "made with label_names words, not wnid"),
        ([], "not unset. Nothing was changed: pass the options of that export"),
    ],
)
def test_another_index_is_not_mixed_in(
    make: Make, archives: Archives, options: list[str], words: str
) -> None:
    output = make("--shards", 3, "--split", "validation")
    before = {path: path.read_bytes() for path in output.rglob("*.parquet")}
    common = ("--no-checks", "--num-proc", 1, "--split", "validation", "--output", output)
    result = run("prepare", archives.folder, *common, *options)
    assert result.exit_code == 1 and words in result.output, result.output
    assert {path: path.read_bytes() for path in output.rglob("*.parquet")} == before


def test_the_card_of_somebody_else_is_left_alone(archives: Archives, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    options = ("--no-checks", "--in-place", "--output", tmp_path)
    result = run("prepare", archives.folder, *options)
    assert result.exit_code == 1 and "was not written by this command" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--in-place", "--output", "o", "--size", "64"], "leave --size out"),
        (["--in-place", "--output", "o", "--ray"], "leave --ray out"),
        (["--in-place", "--output", "o", "--shard-size", "1MB"], "leave --shard-size out"),
        (["--in-place", "--output", "o", "--order", "mixed"], "leave --order out"),
        (["--output", "o", "--portable"], "--portable goes with --in-place"),
        (["--output", "o", "--shards", "3"], "--shards goes with --in-place"),
        (["--in-place", "--portable"], "--portable goes with --output"),
        (["--in-place", "--shards", "3"], "--shards goes with --output"),
        (["--in-place", "--output", "o", "--shards", "0"], "0 is not in the range"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], words: str) -> None:
    result = run("prepare", "D", *options)
    assert result.exit_code == 2 and words in " ".join(result.output.split())


def test_archives_behind_a_url_need_portable(tmp_path: Path) -> None:
    """A process that loads the index would refuse to follow its URLs."""
    memory = fsspec.filesystem("memory")
    fakes.make_archives(tmp_path / "here", classes=0, validation=5)
    memory.pipe(f"/images/{VAL}", (tmp_path / "here" / VAL).read_bytes())
    options = ("--no-checks", "--in-place", "--output", tmp_path / "out")
    result = run("prepare", "memory://images", *options)
    assert result.exit_code == 1 and "Pass --portable, and set IMAGENET2012_DIR" in result.output
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------- on another machine


def test_a_moved_folder(
    make: Make, archives: Archives, tmp_path: Path, client_env: dict[str, str]
) -> None:
    """Index and archives at paths of another machine, once by path and once by name."""
    for options in ((), ("--portable",)):
        here, there = tmp_path / "here", tmp_path / "there" / "disk"
        shutil.copytree(archives.folder, here)
        index = make("--shards", 2, *options, folder=here).rename(tmp_path / "index")
        there.parent.mkdir()
        here.rename(there)
        told = client({**client_env, "IMAGENET2012_DIR": str(there)}, index)
        assert told == "{'train': 60, 'validation': 90, 'test': 7} 90 2\n"
        for folder in (index, there.parent):
            shutil.rmtree(folder)


def portable(make: Make, split: str = "validation") -> datasets.Dataset:
    return datasets.load_dataset(str(make("--shards", 2, "--portable")), split=split)


def test_the_variable_may_be_set_later_and_changed(
    make: Make, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = portable(make)
    with pytest.raises(ArchiveError, match="IMAGENET2012_DIR is not set"):
        dataset[0]
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path))
    with pytest.raises(ArchiveError, match="the folder that IMAGENET2012_DIR names"):
        dataset[0]
    monkeypatch.setenv("IMAGENET2012_DIR", str(archives.folder))
    assert dataset[0]["image"].mode == "RGB"
    assert sorted(contents(dataset)) == wanted(archives.expected["validation"])


def test_what_to_set_is_said(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dataset = portable(make)
    advice = f"Set IMAGENET2012_DIR to the folder that holds {VAL}, before the program starts."
    for folder in (None, tmp_path):
        if folder:
            monkeypatch.setenv("IMAGENET2012_DIR", str(folder))
        with pytest.raises(ArchiveError) as caught:
            dataset[0]
        assert advice in str(caught.value)
        assert str(folder or "is not set") in str(caught.value)


def test_what_to_set_is_said_of_a_path(
    make: Make, archives: Archives, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(archives.folder, tmp_path / "here")
    output = make("--shards", 2, folder=tmp_path / "here")
    dataset = datasets.load_dataset(str(output), split="validation")
    shutil.rmtree(tmp_path / "here")
    for folder in (None, tmp_path):
        if folder:
            monkeypatch.setenv("IMAGENET2012_DIR", str(folder))
        with pytest.raises(ArchiveError, match="cannot be opened: No such file") as caught:
            dataset[0]
        assert f"{tmp_path}/here/{VAL}" in str(caught.value)
        assert f"set IMAGENET2012_DIR to the folder that holds {VAL}" in str(caught.value)
    assert f"It is not in {tmp_path}, the folder that" in str(caught.value)


def test_a_path_that_exists_comes_first(
    make: Make, archives: Archives, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = datasets.load_dataset(str(make("--shards", 2)), split="validation")
    (tmp_path / VAL).write_bytes(b"another")
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path))
    assert sorted(contents(dataset)) == wanted(archives.expected["validation"])


def test_another_archive_of_that_name_gives_no_wrong_image(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = portable(make)
    (tmp_path / VAL).write_bytes(fakes.tar(fakes.flat_images("val", 90, seed=1)))
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path))
    for index in range(len(dataset)):
        with pytest.raises(ArchiveError, match="is not here"):
            dataset[index]


@pytest.mark.parametrize("made", [TEST, OLD_TEST])
@pytest.mark.parametrize("found", [TEST, OLD_TEST])
def test_both_names_of_the_test_archive(
    made: str,
    found: str,
    make: Make,
    archives: Archives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder, name in ((tmp_path / "a", made), (tmp_path / "b", found)):
        folder.mkdir()
        shutil.copy(archives.folder / TEST, folder / name)
    output = make("--shards", 2, "--portable", folder=tmp_path / "a")
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path / "b"))
    dataset = datasets.load_dataset(str(output), split="test")
    assert sorted(contents(dataset)) == wanted(archives.expected["test"])


def test_the_variable_may_be_relative_or_of_the_home(
    make: Make, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = portable(make)
    (tmp_path / "imagenet").symlink_to(archives.folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("imagenet", "~/imagenet", f"{tmp_path}/imagenet/", f"file://{archives.folder}"):
        monkeypatch.setenv("IMAGENET2012_DIR", folder)
        assert dataset[0]["image"].mode == "RGB"


def test_the_variable_may_be_a_url(
    make: Make, archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is the user who names it, the rule for URLs in datasets does not hold."""
    dataset = portable(make)
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/named/{VAL}", (archives.folder / VAL).read_bytes())
    monkeypatch.setenv("IMAGENET2012_DIR", "memory://named")
    assert sorted(contents(dataset)) == wanted(archives.expected["validation"])


def test_no_look_at_the_disk_is_added(
    make: Make, archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image costs one `stat` of its archive, whether it is called by path or by name."""
    fs = fsspec.filesystem("imagenet2012")
    by_name = [row["image"]["path"] for row in undecoded(portable(make))]
    archive = str(archives.folder).replace("/", "%2F")
    by_path = [url.replace("//", f"//{archive}%2F") for url in by_name]
    monkeypatch.setenv("IMAGENET2012_DIR", str(archives.folder))
    looked: list[Any] = []
    stat = os.stat
    for urls in (by_path, by_name):
        fs.cat_file(urls[0])
        looked.clear()
        with monkeypatch.context() as patch:
            patch_os(patch, "stat", lambda *a, **k: looked.append(a) or stat(*a, **k))
            for url in urls[1:]:
                fs.cat_file(url)
        assert len(looked) == len(urls) - 1


# ------------------------------------------------------------------------- what a URL can read


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with private files around and in the folder that the variable names."""
    secret = fakes.tar([("n01440764_1.JPEG", b"secret")])
    folder = tmp_path / "house" / "imagenet"
    (folder / "sub").mkdir(parents=True)
    for path in (
        *(tmp_path / "house" / name for name in (VAL, "backup.tar")),
        *(folder / name for name in ("backup.tar", "n01440764.tar", ".tar", f"{VAL}.bak")),
        folder / "sub" / VAL,
    ):
        path.write_bytes(secret)
    monkeypatch.setenv("IMAGENET2012_DIR", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "backup.tar",
        "n01440764.tar",
        ".tar",
        f"{VAL}.bak",
        "",
        ".",
        "..",
        f"..%2F{VAL}",
        f"sub%2F{VAL}",
        f"sub%2F..%2F..%2F{VAL}",
        f".%2Fsub%2F{VAL}",
        f"..%5C{VAL}",
        f"%2E%2E%2F{VAL}",
        f"{VAL}%00",
        f"{VAL}%2F",
        f"~%2F{VAL}",
        f"{VAL}%2F..%2Fbackup.tar",
        VAL.lower(),
        f"C:{VAL}",
        f"%20{VAL}",
    ],
)
def test_a_name_reads_nothing_but_original_archives(name: str, house: Path) -> None:
    """In the working directory too, though that is the very folder."""
    files = fsspec.filesystem("imagenet2012")
    with pytest.raises((ArchiveError, FileNotFoundError)) as caught:
        files.cat_file(f"imagenet2012://{name}/0-6/n01440764_1.JPEG")
    assert "secret" not in str(caught.value)


def test_a_path_falls_back_to_original_archives_only(house: Path) -> None:
    files = fsspec.filesystem("imagenet2012")
    for path in ("%2Fnowhere%2Fbackup.tar", "%2Fnowhere%2F..", "%2Fnowhere%2F", "%2Fnowhere"):
        with pytest.raises(ArchiveError):
            files.cat_file(f"imagenet2012://{path}/0-6/n01440764_1.JPEG")
    (house / VAL).write_bytes(fakes.tar([("ILSVRC2012_val_00000001.JPEG", b"image")]))
    url = f"imagenet2012://%2Fnowhere%2F{VAL}/0-5/ILSVRC2012_val_00000001.JPEG"
    assert files.cat_file(url) == b"image"


def test_of_an_archive_nothing_but_images_is_read(house: Path) -> None:
    """By a name, as by a path: whole, under its own name, at its own place."""
    members = [("private.txt", b"secret"), ("n01440764_1.JPEG", b"image!")]
    (house / TRAIN).write_bytes(fakes.tar(members))
    files = fsspec.filesystem("imagenet2012")
    url = f"imagenet2012://{TRAIN}/"
    assert files.cat_file(f"{url}1024-6/n01440764_1.JPEG") == b"image!"
    for rest in (
        "0-6/private.txt",
        "0-6/n01440764_1.JPEG",
        "512-6/n01440764_1.JPEG",
        "1024-5/n01440764_1.JPEG",
        "1024-7/n01440764_1.JPEG",
        "1024-6/n01440764_2.JPEG",
        "1024-6/../n01440764_1.JPEG",
        f"1024-{1 << 40}/n01440764_1.JPEG",
    ):
        with pytest.raises((ArchiveError, FileNotFoundError)) as caught:
            files.cat_file(url + rest)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "imagenet2012://%2Fetc%2Fpasswd/0-100/n01440764_1.JPEG",
        "imagenet2012://..%2F..%2Fetc%2Fpasswd/0-100/n01440764_1.JPEG",
        "imagenet2012://backup.tar/0-6/n01440764_1.JPEG",
        f"imagenet2012://..%2F{VAL}/0-6/n01440764_1.JPEG",
        f"imagenet2012://http%3A%2F%2F127.0.0.1%3A9%2F{VAL}/0-6/n01440764_1.JPEG",
    ],
)
def test_a_forged_index_reads_nothing_else(
    url: str, forge: Callable[[str], Any], house: Path
) -> None:
    """Loaded as any program would load somebody's folder."""
    with pytest.raises((ArchiveError, FileNotFoundError)) as caught:
        forge(url)
    assert "secret" not in str(caught.value) and "root:" not in str(caught.value)


# ------------------------------------------------------------------------- load, show, check


@pytest.fixture
def exported(archives: Archives, tmp_path: Path) -> Path:
    """A folder of shards that hold the images."""
    options = ("--no-checks", "--num-proc", 1, "--split", "validation", "--output")
    result = run("prepare", archives.folder, *options, tmp_path / "exported")
    assert result.exit_code == 0, result.output
    return tmp_path / "exported"


def test_load_takes_an_index(make: Make, archives: Archives) -> None:
    output = make("--shards", 3)
    for dataset in (
        imagenet2012.load(output, split="validation"),
        imagenet2012.load(str(output), "in_place", split="validation", label_names="words"),
        imagenet2012.load(output)["validation"],
        imagenet2012.load(output, split="validation", streaming=True),
        imagenet2012.load(output, split=["train", "validation"], order="mixed")[1],
        imagenet2012.load(output, streaming=True, revision="main")["validation"],
    ):
        assert sorted(contents(dataset)) == wanted(archives.expected["validation"])
        assert type(dataset.features["image"]).__name__ == "NamedImage", "its errors name images"
    assert imagenet2012.load(output, split="train[:10]", keep_in_memory=True).num_rows == 10


def test_load_takes_an_export(exported: Path, archives: Archives) -> None:
    dataset = imagenet2012.load(exported, split="validation")
    assert sorted(contents(dataset)) == wanted(archives.expected["validation"])
    assert imagenet2012.load(exported, streaming=True).keys() == {"validation"}


def test_load_refuses_what_the_folder_is_not(make: Make, exported: Path) -> None:
    output = make("--shards", 2, "--label-names", "wnid")
    for words, folder, options in (
        ("was written with label_names 'wnid', not 'words'", output, {"label_names": "words"}),
        ("are shuffled", output, {"order": "archive"}),
        ("holds the images of validation themselves", exported, {"name": "in_place"}),
    ):
        with pytest.raises(ValueError, match=words):
            imagenet2012.load(folder, **options)
    with pytest.raises(ValueError, match="train"):
        imagenet2012.load(exported, split="train")
    names = imagenet2012.load(output, split="test").features["label"].names
    assert names[0] == "n01440764"


def test_archives_come_before_shards(
    make: Make, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    output = make("--shards", 2, "--split", "validation")
    shutil.copy(archives.folder / TRAIN, output)
    assert imagenet2012.load(output, **cache).keys() == {"train"}


def test_other_parquet_is_not_taken(tmp_path: Path, cache: dict[str, Any]) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"file_name": ["n01440764_1.JPEG"]}), path)
    with pytest.raises(datasets.exceptions.ManualDownloadError):
        imagenet2012.load(tmp_path, **cache)


def test_show_draws_from_an_index(make: Make, exported: Path, tmp_path: Path) -> None:
    output = make("--shards", 2)
    picture = tmp_path / "sheet.png"
    result = run("show", output, "--no-checks", "--count", 4, "-o", picture)
    assert result.exit_code == 0 and "4 validation images" in result.output, result.output
    result = run("show", exported, "-o", tmp_path / "other.png")
    assert result.exit_code == 1 and "Parquet shards of the images themselves" in result.output


def test_check_proves_shards(make: Make, exported: Path, archives: Archives) -> None:
    output = make("--shards", 3)
    result = run("check", output, "--no-checks")
    assert result.exit_code == 0 and result.output.endswith("All OK.\n"), result.output
    assert f"60 images in 3 shards, an index of {archives.folder}/{TRAIN}" in result.output
    assert run("check", exported, "--no-checks").exit_code == 0
    result = run("check", output, "--json", "--split", "train")
    told = json.loads(result.output)
    assert (result.exit_code, told["ok"]) == (1, False)
    assert told["shards"][0]["problems"] == ["60 images instead of 1,281,167"]


@pytest.mark.parametrize("fault", ["a header", "another order"])
def test_check_looks_at_every_header_that_an_index_names(
    fault: str, make: Make, archives: Archives, tmp_path: Path
) -> None:
    """An archive of the same size may be another."""
    folder = Path(shutil.copytree(archives.folder, tmp_path / "mine"))
    output = make("--shards", 2, "--split", "train", folder=folder)
    data = (folder / TRAIN).read_bytes()
    name = b"n01440764_10026.JPEG"
    with tarfile.open(folder / TRAIN) as tar:
        members = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]
    if fault == "a header":
        start = data.index(name + b"\0")
        (folder / TRAIN).write_bytes(data[:start] + bytes(512) + data[start + 512 :])
        said = f"1 images are not where the index says, {name.decode()} first"
    else:
        (folder / TRAIN).write_bytes(fakes.tar(members[::-1]))
        said = "images are not where the index says"
    assert (folder / TRAIN).stat().st_size == len(data)
    result = run("check", output, "--no-checks")
    assert result.exit_code == 1 and said in " ".join(result.output.split()), result.output


@pytest.mark.parametrize("fault", ["a file", "a header", "a class tar"])
def test_check_looks_at_every_image_of_a_tree(
    fault: str, make: Make, archives: Archives, tmp_path: Path
) -> None:
    train, val = tmp_path / "tree" / "train", tmp_path / "tree" / "val"
    for name, folder in ((TRAIN, train), (VAL, val)):
        folder.mkdir(parents=True)
        with tarfile.open(archives.folder / name) as tar:
            tar.extractall(folder, filter="data")
    output = make("--shards", 2, folder=tmp_path / "tree")
    assert run("check", output, "--no-checks").exit_code == 0
    tar_path = next(train.glob("*.tar"))
    if fault == "a file":
        next(val.iterdir()).unlink()
    elif fault == "a class tar":
        tar_path.unlink()
    else:
        with tar_path.open("r+b") as file:
            file.write(bytes(512))
    result = run("check", output, "--no-checks")
    output_text = " ".join(result.output.split())
    said = tar_path.name if fault == "a class tar" else "1 images are not where the index says"
    assert result.exit_code == 1 and said in output_text, result.output


def test_shards_in_each_others_place_are_found(make: Make) -> None:
    output = make("--shards", 3)
    first, second = (output / f"data/train-0000{n}-of-00003.parquet" for n in (0, 1))
    kept = second.read_bytes()
    second.write_bytes(first.read_bytes())
    result = run("check", output, "--no-checks")
    assert result.exit_code == 1 and "another shard of this one" in result.output
    second.write_bytes(kept)
    other = output / "data/train-00000-of-00009.parquet"
    other.write_bytes(kept)
    result = run("check", output, "--no-checks")
    assert result.exit_code == 1 and "is not of this export" in result.output
    other.unlink()
    assert run("check", output, "--no-checks").exit_code == 0
    for path in output.glob("data/validation-*"):
        path.write_bytes(kept)
    assert "holds train images" in run("check", output, "--no-checks").output
    with pytest.raises(ValueError, match="holds train images"):
        imagenet2012.load(output, split="validation")


def test_what_is_not_for_shards_is_refused(exported: Path) -> None:
    for option in ("--deep", "--decode"):
        result = run("check", exported, option)
        assert result.exit_code == 2 and "pass the folder of the archives" in result.output
    result = run("prepare", exported, "--split", "train")
    assert result.exit_code == 2 and "pass the folder of the archives" in result.output
    for name, options, said in (
        ("train", {}, "'train' is a split"),
        ("in_plce", {}, "did you mean 'in_place'"),
        ("default", {"order": "mixd"}, "order is 'archive' or 'mixed'"),
        ("default", {"label_nmes": "wnid"}, "did you mean 'label_names'"),
    ):
        with pytest.raises(ValueError, match=said):
            imagenet2012.load(exported, name, **options)


def test_without_checks_nothing_is_said_of_sizes(archives: Archives, tmp_path: Path) -> None:
    options = ("--no-checks", "--num-proc", 1, "--in-place", "--output", tmp_path / "out")
    assert "Warning" not in run("prepare", archives.folder, *options).output


def test_what_was_loaded_without_checks_is_checked_before_an_export(
    make: Make, archives: Archives, tmp_path: Path
) -> None:
    make("--shards", 1)
    for options in (("--in-place",), ()):
        result = run("prepare", archives.folder, "--output", tmp_path / "other", *options)
        assert result.exit_code == 1 and "pass --no-checks" in result.output
    assert not (tmp_path / "other").exists()
    folder = tmp_path / "tree" / "val"
    folder.mkdir(parents=True)
    with tarfile.open(archives.folder / VAL) as tar:
        tar.extractall(folder, filter="data")
    shutil.rmtree(tmp_path / "out")
    make("--shards", 1, folder=folder.parent)
    result = run("prepare", folder.parent, "--in-place", "--output", tmp_path / "other")
    assert result.exit_code == 1 and "90 validation images instead of 50,000" in result.output


def test_check_finds_what_is_wrong_with_shards(make: Make, tmp_path: Path) -> None:
    output = make("--shards", 3, "--split", "validation", "--portable")
    (first, second, _) = sorted(output.glob("data/*.parquet"))
    first.unlink()
    data = bytearray(second.read_bytes())
    data[100] ^= 1
    second.write_bytes(data)
    result = run("check", output, "--no-checks")
    assert result.exit_code == 1
    for words in (f"{first} is missing", f"{second} is damaged", "IMAGENET2012_DIR is not set"):
        assert words in result.output
    assert run("check", output, "--split", "train").exit_code == 1


# ------------------------------------------------------------------------- the Hub


@pytest.fixture
def server() -> Iterator[hub_server.Hub]:
    with hub_server.running() as hub:
        yield hub


def test_a_push_is_always_portable(
    server: hub_server.Hub, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    env |= {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "imagenet2012", "prepare", str(archives.folder)]
    command += ["--no-checks", "--split", "validation", "--in-place", "--shards", "2"]
    command += ["--output", str(tmp_path / "out"), "--push", "me/imagenet"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "answer for who may see" not in done.stderr, "it holds no images"
    for name, data in server.files.items():
        assert str(archives.folder).encode() not in data, name
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.setenv("IMAGENET2012_DIR", str(archives.folder))
    dataset = datasets.load_dataset(str(tmp_path / "there"), split="validation")
    assert sorted(contents(dataset)) == wanted(archives.expected["validation"])
