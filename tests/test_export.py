"""What `index` and `export` write: other programs read it, and nothing else is touched."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import fakes
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from conftest import HANG, ROOT, Archives
from huggingface_hub import DatasetCard
from PIL import Image

import imagenet2012
from imagenet2012.cli import main
from rows import contents, undecoded, wanted

pytestmark = pytest.mark.loading
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TEST = "ILSVRC2012_img_test_v10102019.tar"
VERBS = ("index", "export")
SMALL = {"index": ("--shards", 5), "export": ("--shard-size", "40kB")}
Run = Callable[..., Result]
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMAGENET2012_DIR", raising=False)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def write(archives: Archives, tmp_path: Path) -> Write:
    """Return what indexes or exports archives to the folder `out`, in a few shards."""

    def write(verb: str, *options: object, folder: Path = archives.folder) -> Path:
        common = (verb, folder, tmp_path / "out", "--no-checks", "--num-proc", 1, *SMALL[verb])
        result = run(*common, *options)
        assert result.exit_code == 0, result.output
        return tmp_path / "out"

    return write


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, but the lock."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".imagenet2012.lock"
    }


def refused(folder: Path, output: Path, words: str, verb: str, *options: object) -> None:
    """Assert that an export says so, and changes nothing."""
    before = fingerprint(output)
    result = run(verb, folder, output, "--no-checks", "--num-proc", 1, *SMALL[verb], *options)
    assert result.exit_code == 1 and words in result.output, result.output
    assert fingerprint(output) == before


# ------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("verb", VERBS)
def test_the_rows_are_those_of_the_archives(verb: str, write: Write, archives: Archives) -> None:
    """Of all splits, shuffled, in even shards, with the features of the loader."""
    output = write(verb)
    loaded = datasets.load_dataset(str(output))
    assert set(loaded) == {"train", "validation", "test"}
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(archives.expected[split])
        assert dataset.features == imagenet2012.Imagenet2012().info.features
        stored = undecoded(dataset)[0]["image"]
        assert (stored["bytes"] is None) == (verb == "index")
    assert loaded["train"]["file_name"][:] != list(archives.expected["train"])
    sizes = [pq.read_metadata(path).num_rows for path in (output / "data").glob("train-*")]
    assert len(sizes) > 3 and max(sizes) - min(sizes) <= 1


CLIENT = """
import sys, datasets
loaded = datasets.load_dataset(sys.argv[1])
assert loaded["train"][0]["image"].mode == "RGB"
streamed = datasets.load_dataset(sys.argv[1], split="train", streaming=True)
batch = [row["label"] for row, _ in zip(streamed.shuffle(seed=0, buffer_size=10), range(20))]
assert len(set(batch)) > 8, batch
print({k: v.num_rows for k, v in loaded.items()}, streamed.num_shards)
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


@pytest.mark.parametrize("options", [(), ("--portable",)])
def test_other_programs_take_an_index(
    options: tuple[str, ...], write: Write, archives: Archives, tmp_path: Path,
    client_env: dict[str, str],
) -> None:  # fmt: skip
    """By the line that they have for any dataset; also where the archives were moved."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(archives.folder, here)
    index = write("index", *options, folder=here)
    here.rename(there)
    told = client({**client_env, "IMAGENET2012_DIR": str(there)}, index)
    assert told == "{'train': 60, 'validation': 90, 'test': 7} 5\n"


def test_an_export_needs_no_package(write: Write, tmp_path: Path) -> None:
    output = write("export")
    code = (
        "import sys, datasets\n"
        "d = datasets.load_dataset(sys.argv[1], cache_dir=sys.argv[2])\n"
        "assert 'imagenet2012' not in sys.modules\n"
        "print(d['validation'][0]['image'].mode, d['train'].features['label'].names[0])"
    )
    command = [sys.executable, "-c", code, str(output), str(tmp_path / "fresh")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "RGB tench, Tinca tinca\n", done.stderr


def test_resized(write: Write, tmp_path: Path) -> None:
    images = {"n01440764_1.JPEG": fakes.jpeg(1, size=(300, 200)), "n01440764_2.JPEG": fakes.jpeg(2)}
    images["n01440764_3.JPEG"] = fakes.rotated(3, size=(300, 200))
    images["n01440764_4.JPEG"] = fakes.jpeg(4, mode="CMYK", size=(200, 300))
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / TRAIN).write_bytes(fakes.train_tar({"n01440764": list(images.items())}))
    output = write("export", "--size", 100, folder=folder)
    loaded = datasets.load_dataset(str(output), split="train")
    found = {row["file_name"]: row["image"].size for row in loaded}
    assert found == {
        "n01440764_1.JPEG": (150, 100),
        "n01440764_2.JPEG": (96, 72),
        "n01440764_3.JPEG": (150, 100),
        "n01440764_4.JPEG": (100, 150),
    }
    stored = {name: data for name, data, _ in contents(loaded)}
    assert stored["n01440764_2.JPEG"] == images["n01440764_2.JPEG"]
    assert "RGB JPEG of quality 90" in (output / "README.md").read_text()
    brightness = Image.open(io.BytesIO(stored["n01440764_3.JPEG"])).convert("L").resize((1, 2))
    upright = fakes.draw(3, (300, 200)).convert("L").resize((1, 2))
    assert all(abs(a - b) < 6 for a, b in zip(brightness.tobytes(), upright.tobytes(), strict=True))


def test_an_image_that_cannot_be_resized_is_named(archives: Archives, tmp_path: Path) -> None:
    (tmp_path / VAL).write_bytes(fakes.tar([("ILSVRC2012_val_00000007.JPEG", b"no image")]))
    result = run("export", tmp_path / VAL, tmp_path / "out", "--no-checks", "--size", 64)
    assert result.exit_code == 1 and "No archive" in result.output
    result = run("export", tmp_path, tmp_path / "out", "--no-checks", "--size", 64)
    assert result.exit_code == 1 and "ILSVRC2012_val_00000007.JPEG" in result.output


@pytest.mark.parametrize("options", [(), ("--size", 48)])
def test_processes_write_the_same_bytes(options: tuple[object, ...], tmp_path: Path) -> None:
    """As one process does, which is enough for less than 500 images."""
    members = fakes.flat_images("val", 1200)
    (tmp_path / VAL).write_bytes(fakes.tar(members))
    made = []
    for processes in (1, 3):
        output = tmp_path / f"out{processes}"
        common = ("--no-checks", "--num-proc", processes, "--shard-size", "600kB", *options)
        assert run("export", tmp_path, output, *common).exit_code == 0
        made.append(fingerprint(output / "data"))
    assert made[0] == made[1] and len(made[0]) > 1


def test_the_card_is_one_of_the_hub(write: Write, archives: Archives) -> None:
    card = DatasetCard.load(write("export") / "README.md")
    data = card.data.to_dict()
    assert data["size_categories"] == "n<1K"
    splits = {split["name"]: split["num_examples"] for split in data["dataset_info"]["splits"]}
    assert splits == {"train": 60, "validation": 90, "test": 7}
    assert [one["split"] for one in data["configs"][0]["data_files"]] == list(splits)
    assert "This is an index" not in card.text


def test_the_card_of_an_index_says_what_it_needs(write: Write, archives: Archives) -> None:
    text = (write("index") / "README.md").read_text()
    for words in ("it holds no images", f"{archives.folder}/{VAL}` and", "IMAGENET2012_DIR"):
        assert words in text, text
    shutil.rmtree(write("index"))
    text = (write("index", "--portable") / "README.md").read_text()
    assert VAL in text and str(archives.folder) not in text


def test_the_card_is_about_all_splits_that_are_whole(write: Write, archives: Archives) -> None:
    write("export", "--split", "validation")
    output = write("export", "--split", "train")
    assert set(datasets.load_dataset(str(output))) == {"train", "validation"}


@pytest.mark.parametrize("name", ["parquet", "me/imagenet"])
def test_what_is_printed_loads_what_was_written(
    name: str, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the folder is called as another builder or a repository is, and from elsewhere."""
    monkeypatch.chdir(tmp_path)
    result = run("export", archives.folder, name, "--no-checks", "--split", "validation")
    (line,) = [line for line in result.output.splitlines() if line.startswith("Load it with: ")]
    call = line.partition(": ")[2]
    assert call.removeprefix("datasets.") in Path(name, "README.md").read_text()
    monkeypatch.chdir("/")
    assert eval(call, {"datasets": datasets})["validation"].num_rows == 90


# ------------------------------------------------------------------------- extracted, or at a URL


@pytest.fixture
def tree(archives: Archives, tmp_path: Path) -> Path:
    """The validation images and the class tars, extracted."""
    for name, folder in ((TRAIN, "train"), (VAL, "val")):
        with tarfile.open(archives.folder / name) as tar:
            tar.extractall(tmp_path / "tree" / folder, filter="data")
    return tmp_path / "tree"


@pytest.mark.parametrize("verb", VERBS)
def test_extracted_images(verb: str, tree: Path, write: Write, archives: Archives) -> None:
    loaded = datasets.load_dataset(str(write(verb, folder=tree)))
    for split in ("train", "validation"):
        assert sorted(contents(loaded[split])) == wanted(archives.expected[split])


def test_paths_do_not_travel(tree: Path, tmp_path: Path) -> None:
    result = run("index", tree, tmp_path / "out", "--no-checks", "--portable")
    assert result.exit_code == 1 and "paths, which mean nothing on other machines" in result.output


@pytest.mark.parametrize("verb", VERBS)
def test_archives_behind_a_url(
    verb: str, write: Write, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in place hold their names, so the variable must lead to the URL."""
    url = f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").pipe(
        f"/{tmp_path.name}/{VAL}", (archives.folder / VAL).read_bytes()
    )
    result = run(verb, url, tmp_path / "out", "--no-checks")
    assert result.exit_code == 1 and f"export IMAGENET2012_DIR={url}" in result.output
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("IMAGENET2012_DIR", url)
    result = run(verb, tmp_path / "out", "--no-checks", "--num-proc", 1)
    assert result.exit_code == 0, result.output
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="validation")
    assert sorted(contents(loaded)) == wanted(archives.expected["validation"])
    assert url not in (tmp_path / "out" / "README.md").read_text()


# ------------------------------------------------------------------------- again


@pytest.mark.parametrize("verb", VERBS)
def test_it_goes_on_where_it_was(verb: str, write: Write) -> None:
    """Shards that are there are kept, and those which are missing get the same bytes."""
    output = write(verb)
    before = fingerprint(output)
    shards = sorted((output / "data").glob("*.parquet"))
    times = {path: path.stat().st_mtime_ns for path in shards}
    shards[2].unlink()
    write(verb)
    assert fingerprint(output) == before
    changed = [path for path in shards if path.stat().st_mtime_ns != times[path]]
    assert changed == [shards[2]]


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_finished_is_not_written_again(verb: str, archives: Archives, write: Write) -> None:
    output = write(verb)
    result = run(verb, archives.folder, output, "--no-checks", "--num-proc", 1, *SMALL[verb])
    assert "All of it was there" in result.output


@pytest.mark.parametrize(
    ("verb", "options", "words"),
    [
        ("index", ("--shards", 4), "made with shards 5, not 4"),
        ("index", ("--portable",), f"/{VAL}, not {VAL}"),
        ("export", ("--shard-size", "1MB"), "shard_size 40000, not 1000000"),
        ("export", ("--size", 50), "size None, not 50"),
    ],
)
def test_another_export_is_left_alone(
    verb: str, options: tuple[object, ...], words: str, write: Write, archives: Archives
) -> None:
    output = write(verb, "--split", "validation")
    refused(archives.folder, output, words, verb, *options)


def test_an_index_and_an_export_do_not_mix(write: Write, archives: Archives) -> None:
    refused(archives.folder, write("index"), "made with shards 5", "export")


def test_an_export_of_a_changed_archive_is_left_alone(
    write: Write, archives: Archives, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(archives.folder / VAL, folder)
    output = write("export", folder=folder)
    (folder / VAL).write_bytes(fakes.tar(fakes.flat_images("val", 90, seed=1)))
    refused(folder, output, "made with archive_", "export")


@pytest.mark.parametrize(
    "data", [b"damaged", pa.table({"url": ["imagenet2012://a/1-2/n01440764_1.JPEG"]})]
)
def test_files_of_somebody_else_are_left_alone(data: Any, write: Write, archives: Archives) -> None:
    """Under the name of a shard, even where their rows speak of this package."""
    output = write("export")
    (shard, *_) = sorted(output.glob("data/*.parquet"))
    if isinstance(data, bytes):
        shard.write_bytes(data)
    else:
        pq.write_table(data, shard)
    refused(archives.folder, output, "of another program, or damaged", "export")


def test_the_card_of_somebody_else_is_left_alone(archives: Archives, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "README.md").write_text("mine")
    refused(archives.folder, output, "was not written by this command", "export")
    assert [path.name for path in output.iterdir()] == ["README.md"]


def test_nothing_is_written_beside_the_archives(archives: Archives, tree: Path) -> None:
    for folder in (archives.folder, tree):
        before = fingerprint(folder)
        result = run("export", folder, folder, "--no-checks")
        assert result.exit_code == 2 and "holds the images" in result.output
        assert fingerprint(folder) == before


def test_only_leftovers_of_this_plan_are_removed(write: Write) -> None:
    output = write("export")
    (shard, *_) = sorted(output.glob("data/*.parquet"))
    kept = [f".{shard.name}.crc", f"{shard.name}.bak", ".train-00000-of-00999.parquet.1.unfinished"]
    for name in (*kept, f".{shard.name}.{'0' * 32}.unfinished"):
        (shard.parent / name).write_bytes(b"?")
    shard.unlink()
    write("export")
    assert {p.name for p in shard.parent.iterdir() if p.suffix != ".parquet"} == set(kept)


def test_the_disk_is_too_small(
    write: Write, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the estimate of what is missing: nothing is needed where all is there."""
    write("export", "--split", "test")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    write("export", "--split", "test")
    options = ("--no-checks", "--num-proc", 1, "--split", "test")
    result = run("export", archives.folder, tmp_path / "other", *options)
    assert result.exit_code == 1 and "OUTPUT on another disk" in result.output
    assert not list(tmp_path.glob("other/data/*"))


def test_the_estimate_is_of_the_resized_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one shard holds them all."""
    members = fakes.flat_images("val", 30, size=(640, 480))
    (tmp_path / VAL).write_bytes(fakes.tar(members))
    free = sum(len(data) for _, data in members) // 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    options = ("--no-checks", "--num-proc", 1)
    assert run("index", tmp_path, tmp_path / "index", *options).exit_code == 0
    result = run("export", tmp_path, tmp_path / "out", *options)
    assert result.exit_code == 1 and "needs about" in result.output
    result = run("export", tmp_path, tmp_path / "out", "--size", 64, *options)
    assert result.exit_code == 0, result.output


# ------------------------------------------------------------------------- killed


def start(folder: Path, tmp_path: Path, *options: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "imagenet2012", "export", str(folder), str(tmp_path / "out")]
    return subprocess.Popen(
        [*command, "--no-checks", *options],
        env=env,
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """An archive whose export takes a while, and processes."""
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / VAL).write_bytes(fakes.tar(fakes.flat_images("val", 2000, size=(320, 240))))
    return folder


def wait_for_shards(process: "subprocess.Popen[str]", output: Path) -> dict[Path, int]:
    """Wait until some shards are written, and return their times."""
    while process.poll() is None and len(list(output.glob("data/*.parquet"))) < 3:
        time.sleep(0.01)
    return {path: path.stat().st_mtime_ns for path in output.glob("data/*.parquet")}


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("kill", [os.kill, getattr(os, "killpg", None)])
def test_killed(kill: Callable[[int, int], None], many: Path, tmp_path: Path) -> None:
    """Alone, or with its workers; what is there is whole, and a second run completes it."""
    options = ("--num-proc", "2", "--shard-size", "500kB", "--size", "100")
    process = start(many, tmp_path, *options)
    wait_for_shards(process, tmp_path / "out")
    kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANG)  # which waits for all workers that could write to it
    assert process.returncode == -signal.SIGKILL
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("data/*.parquet")}
    _, errors = start(many, tmp_path, *options).communicate(timeout=HANG)
    assert (tmp_path / "out" / "README.md").exists(), errors
    assert first and all(path.stat().st_mtime_ns == time for path, time in first.items())
    assert not list(tmp_path.glob("out/data/.*"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="validation")
    assert len(set(loaded["file_name"])) == len(loaded) == 2000


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_ctrl_c(many: Path, tmp_path: Path) -> None:
    """As a terminal does it, to all processes."""
    process = start(many, tmp_path, "--num-proc", "2", "--shard-size", "500kB", "--size", "100")
    wait_for_shards(process, tmp_path / "out")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 1
    assert "The same command goes on" in errors and "Traceback" not in errors, errors


def test_without_a_terminal_there_is_a_line_for_each_shard(many: Path, tmp_path: Path) -> None:
    process = start(many, tmp_path, "--num-proc", "1", "--shard-size", "2MB")
    output, errors = process.communicate(timeout=HANG)
    shards = [path.name for path in sorted(tmp_path.glob("out/data/*.parquet"))]
    assert [line for line in output.splitlines() if line.endswith("is written.")] == [
        f"{name} is written." for name in shards
    ]
    assert errors == "" and len(shards) > 1


HOLDER = """
import filelock, sys
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lock of the folder `out`."""
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out" / ".imagenet2012.lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_at_once(
    holder: "subprocess.Popen[str]", archives: Archives, write: Write, tmp_path: Path
) -> None:
    """The second is refused; the lock ends with its holder, however that ends."""
    refused(archives.folder, tmp_path / "out", "Another process is writing to", "export")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    write("export")
