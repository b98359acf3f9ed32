"""What `index` and `export` write: other programs read it, and nothing else is touched."""

import hashlib
import io
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import datasets
import fakes
import filelock
import fsspec
import layouts
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import HANG, Archives, Process, Run, Write, ended, run_python, start
from huggingface_hub import DatasetCard
from layouts import TRAIN, VAL
from PIL import Image

import imagenet2012
from rows import contents, undecoded, wanted

VERBS = ("index", "export")
SMALL = ("--shard-size", "40kB")


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, but the lock."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".imagenet2012.lock"
    }


# ------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("layout", [layouts.copied, layouts.flat, layouts.class_tars])
def test_the_rows_are_those_of_the_archives(
    layout: layouts.Layout, verb: str, write: Write, archives: Archives, tmp_path: Path
) -> None:
    """Of all splits, shuffled, in even shards, with the features of the loader."""
    output = write(verb, folder=layout(archives.folder, tmp_path / "in"))
    loaded = datasets.load_dataset(str(output))
    assert set(loaded) == {"train", "validation", "test"}
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(archives.expected[split])
        assert dataset.features == imagenet2012.Imagenet2012().info.features
        stored = undecoded(dataset)[0]["image"]
        assert (stored["bytes"] is None) == (verb == "index")
    assert ("it holds no images" in (output / "README.md").read_text()) == (verb == "index")
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
assert ("imagenet2012" in sys.modules) == (sys.argv[2] == "index")
print({k: v.num_rows for k, v in loaded.items()})
"""


@pytest.mark.parametrize("options", [("index", "--portable"), ("export",)])
def test_other_programs_take_it(
    options: tuple[str, ...], write: Write, archives: Archives, tmp_path: Path
) -> None:
    """By the line that they have for any dataset; also where the archives were moved."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(archives.folder, here)
    output = write(*options, folder=here)
    here.rename(there)
    variables = {"HF_HOME": str(tmp_path / "home"), "IMAGENET2012_DIR": str(there)}
    done = run_python(CLIENT, output, options[0], cwd=tmp_path, PYTHONPATH="", **variables)
    assert done.stdout == "{'train': 60, 'validation': 90, 'test': 7}\n", done.stderr


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


def test_an_image_that_cannot_be_resized_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / VAL).write_bytes(fakes.tar([("ILSVRC2012_val_00000007.JPEG", b"no image")]))
    result = run("export", tmp_path, tmp_path / "out", "--no-checks", "--size", 64)
    assert result.exit_code == 1 and "ILSVRC2012_val_00000007.JPEG" in result.output


@pytest.mark.parametrize("options", [(), ("--size", 48)])
def test_processes_write_the_same_bytes(
    options: tuple[object, ...], run: Run, tmp_path: Path
) -> None:
    """As one process does, which is enough for less than 500 images."""
    members = fakes.flat_images("val", 600)
    (tmp_path / VAL).write_bytes(fakes.tar(members))
    made = []
    for processes in (1, 2):
        output = tmp_path / f"out{processes}"
        common = ("--no-checks", "--num-proc", processes, "--shard-size", "300kB", *options)
        assert run("export", tmp_path, output, *common).exit_code == 0
        made.append(fingerprint(output / "data"))
    assert made[0] == made[1] and len(made[0]) > 1


def test_the_card_is_one_of_the_hub(write: Write) -> None:
    """It is about all splits that are whole."""
    write("export", "--split", "validation")
    output = write("export", "--split", "train")
    card = DatasetCard.load(output / "README.md")
    data = card.data.to_dict()
    splits = {split["name"]: split["num_examples"] for split in data["dataset_info"]["splits"]}
    assert splits == {"train": 60, "validation": 90}
    assert [one["split"] for one in data["configs"][0]["data_files"]] == list(splits)
    assert set(datasets.load_dataset(str(output))) == set(splits)


@pytest.mark.parametrize("name", ["parquet", "me/imagenet"])
def test_what_is_printed_loads_what_was_written(
    name: str, run: Run, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the folder is called as another builder or a repository is, and from elsewhere."""
    monkeypatch.chdir(tmp_path)
    result = run("export", archives.folder, name, "--no-checks", "--split", "validation")
    (line,) = [line for line in result.output.splitlines() if line.startswith("Load it with: ")]
    call = line.partition(": ")[2]
    assert call.removeprefix("datasets.") in Path(name, "README.md").read_text()
    monkeypatch.chdir("/")
    assert eval(call, {"datasets": datasets})["validation"].num_rows == 90


@pytest.mark.parametrize("verb", VERBS)
def test_archives_behind_a_url(
    verb: str, run: Run, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    assert "All OK" in run("check", tmp_path / "out", "--no-checks").output
    fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/{VAL}", bytes(10_000))
    result = run("check", tmp_path / "out", "--no-checks")
    assert ("Not all is OK" in result.output) == (verb == "index")


# ------------------------------------------------------------------------- again


@pytest.mark.parametrize("verb", VERBS)
def test_it_goes_on_where_it_was(verb: str, write: Write, run: Run, archives: Archives) -> None:
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
    small = ("--shards", 5) if verb == "index" else ("--shard-size", "40kB")
    result = run(verb, archives.folder, output, "--no-checks", *small)
    assert result.exit_code == 0 and "is written" not in result.output


def change_the_archive(output: Path, folder: Path) -> None:
    (folder / VAL).write_bytes(fakes.tar(fakes.flat_images("val", 90, seed=1)))


def put_others_rows(output: Path, folder: Path) -> None:
    """Under the name of a shard, rows that speak of this package."""
    rows = pa.table({"url": ["imagenet2012://a/1-2/n01440764_1.JPEG"]})
    pq.write_table(rows, min(output.glob("data/*.parquet")))


def put_a_card(output: Path, folder: Path) -> None:
    (output / "README.md").write_text("mine")


def nothing(output: Path, folder: Path) -> None:
    pass


OTHER = "is there, made with other options"


@pytest.mark.parametrize(
    ("made", "change", "options", "words"),
    [
        ("index", nothing, ("index", "--shards", 4), OTHER),
        ("index", nothing, ("index", "--portable", "--shards", 5), OTHER),
        ("index", nothing, ("export",), OTHER),
        ("export", nothing, ("export",), OTHER),
        ("export", nothing, ("export", *SMALL, "--size", 50), OTHER),
        ("export", change_the_archive, ("export", *SMALL), OTHER),
        ("export", put_others_rows, ("export", *SMALL), OTHER),
        ("export", put_a_card, ("export",), "was not written by this command"),
    ],
)
def test_what_another_wrote_is_left_alone(
    made: str,
    change: Callable[[Path, Path], None],
    options: tuple[object, ...],
    words: str,
    write: Write,
    run: Run,
    archives: Archives,
    tmp_path: Path,
) -> None:
    """Another export, or one of an archive that was changed, or somebody else's files."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(archives.folder / VAL, folder)
    output = write(made, folder=folder)
    change(output, folder)
    before = fingerprint(output)
    verb, *others = options
    result = run(verb, folder, output, "--no-checks", *others)
    assert result.exit_code == 1 and words in result.output, result.output
    assert fingerprint(output) == before


@pytest.mark.parametrize("layout", [layouts.copied, layouts.flat])
def test_nothing_is_written_beside_the_images(
    layout: layouts.Layout, run: Run, archives: Archives, tmp_path: Path
) -> None:
    folder = layout(archives.folder, tmp_path / "in")
    before = fingerprint(folder)
    result = run("export", folder, folder, "--no-checks")
    assert result.exit_code == 2 and "OUTPUT is a folder" in result.output
    result = run("index", folder, tmp_path / "out", "--no-checks", "--portable")
    words = "" if layout == layouts.copied else "paths, which mean nothing on other machines"
    assert words in result.output and result.exit_code == bool(words)
    assert fingerprint(folder) == before


def test_the_disk_is_too_small(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the estimate of what is missing, which is that of resized images if they are."""
    members = fakes.flat_images("val", 30, size=(640, 480))
    (tmp_path / VAL).write_bytes(fakes.tar(members))
    free = SimpleNamespace(free=sum(len(data) for _, data in members) // 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    result = run("export", tmp_path, tmp_path / "large", "--no-checks")
    assert result.exit_code == 1 and "OUTPUT on another disk" in result.output
    assert not list(tmp_path.glob("large/data/*"))
    resized = ("export", tmp_path, tmp_path / "small", "--no-checks", "--size", 64)
    for command in (("index", tmp_path, tmp_path / "index", "--no-checks"), resized):
        assert run(*command).exit_code == 0
    free.free = 0
    assert run(*resized).exit_code == 0, "all is there"


# ------------------------------------------------------------------------- killed


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """An archive whose export takes a while, and processes."""
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / VAL).write_bytes(fakes.tar(fakes.flat_images("val", 2000, size=(320, 240))))
    return folder


def exporting(many: Path, tmp_path: Path) -> Process:
    """Start an export, and return when some shards are written."""
    process = start(tmp_path, "export", many, tmp_path / "out", *RESIZED)
    while process.poll() is None and len(list(tmp_path.glob("out/data/*.parquet"))) < 3:
        time.sleep(0.01)
    return process


RESIZED = ("--no-checks", "--num-proc", "2", "--shard-size", "500kB", "--size", "100")
GROUPS = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")


@GROUPS
@pytest.mark.parametrize("kill", [os.kill, getattr(os, "killpg", None)])
def test_killed(kill: Callable[[int, int], None], many: Path, tmp_path: Path) -> None:
    """Alone, or with its workers; what is there is whole, and a second run completes it."""
    process = exporting(many, tmp_path)
    kill(process.pid, signal.SIGKILL)
    assert ended(process).returncode == -signal.SIGKILL
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("data/*.parquet")}
    done = ended(start(tmp_path, "export", many, tmp_path / "out", *RESIZED))
    assert (done.returncode, done.stderr) == (0, ""), "it is quiet where nobody looks"
    assert first and all(path.stat().st_mtime_ns == time for path, time in first.items())
    assert not list(tmp_path.glob("out/data/.*"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="validation")
    assert len(set(loaded["file_name"])) == len(loaded) == 2000


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs to see children")
def test_ctrl_c(many: Path, tmp_path: Path) -> None:
    """As a terminal does it, to all processes; those that hang are not waited for."""
    process = exporting(many, tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in map(int, children):
        os.kill(child, signal.SIGSTOP)
    os.killpg(process.pid, signal.SIGINT)
    try:
        assert children and process.wait(HANG) == 1
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    told = ended(process).stderr
    assert told.startswith("Interrupted. The same command goes on where it was.\n")
    assert "Traceback" not in told


def test_two_at_once(run: Run, write: Write, archives: Archives, tmp_path: Path) -> None:
    """The second is refused."""
    (tmp_path / "out").mkdir()
    with filelock.FileLock(tmp_path / "out" / ".imagenet2012.lock"):
        result = run("export", archives.folder, tmp_path / "out", "--no-checks")
        assert result.exit_code == 1 and "Another process is writing to" in result.output
        assert not list(tmp_path.glob("out/data/*"))
    write("export")
