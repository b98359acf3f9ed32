"""Uploads to a server on this machine that speaks as the Hub does, by the command as it is used."""

from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import hub_server
import pytest
from conftest import Archives, Ended, ended, start

Push = Callable[..., Ended]


@pytest.fixture
def server() -> Iterator[hub_server.Hub]:
    with hub_server.running() as hub:
        yield hub


@pytest.fixture
def push(server: hub_server.Hub, archives: Archives, tmp_path: Path) -> Push:
    """Export to a folder and push it; offline is off, as the server is all there is."""
    hub = {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"}

    def run(output: Path, *options: str) -> Ended:
        common = ("--no-checks", "--split", "validation", "--num-proc", 1, "--push", "me/imagenet")
        return ended(start(tmp_path, "export", archives.folder, output, *common, *options, **hub))

    return run


def shards(server: hub_server.Hub) -> set[str]:
    return {name for name in server.files if name.startswith("data/")}


def written(output: Path) -> set[str]:
    return {f"data/{path.name}" for path in output.glob("data/*.parquet")}


def test_a_push_replaces_another_sharding(
    server: hub_server.Hub, push: Push, archives: Archives, tmp_path: Path
) -> None:
    server.files["notes.txt"] = server.files["data/other/old.bin"] = b"somebody's"
    for output, size in ((tmp_path / "few", "1MB"), (tmp_path / "many", "50kB")):
        (output / "data").mkdir(parents=True)
        for name in ("notes.txt", "data/mine.parquet", "data/.mine.parquet.crc"):
            (output / name).write_text("mine")
        done = push(output, "--shard-size", size)
        assert done.returncode == 0, done.stderr
        assert "Uploaded to the dataset repository me/imagenet." in done.stdout
        exported = written(output) - {"data/mine.parquet"}
        assert shards(server) == exported and b"mine" not in server.files.values()
        assert done.stdout.count("is written.") == len(exported)
        assert b'load_dataset("me/imagenet")' in server.files["README.md"]
    assert server.files["notes.txt"] == b"somebody's", "it is not in data/"
    for name, data in server.files.items():
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    there = datasets.load_dataset(str(tmp_path / "there"), cache_dir=str(tmp_path / "cache"))
    assert sorted(there["validation"]["file_name"]) == sorted(archives.expected["validation"])


def test_a_push_removes_what_is_old_in_one_commit(
    server: hub_server.Hub, push: Push, tmp_path: Path
) -> None:
    """As no reader should meet both shardings; also if it is resumed when all had arrived."""
    old = "data/validation-00000-of-00009.parquet"
    for is_new in (True, False):
        server.files[old] = b"old"
        done = push(tmp_path / "out")
        assert done.returncode == 0 and ("is written" in done.stdout) == is_new
        assert shards(server) == written(tmp_path / "out")
        assert server.commits[-1]["deletedFile"] == [old]
    assert len(server.commits) == 2


def test_a_failed_upload_keeps_its_reason(
    server: hub_server.Hub, push: Push, tmp_path: Path
) -> None:
    """The shards stay, and the next push goes on with them."""
    server.refusal = 403, (words := "Private repository storage limit reached")
    done = push(tmp_path / "out")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert words in done.stderr and "the same command goes on" in done.stderr
    server.refusal = None
    done = push(tmp_path / "out")
    assert done.returncode == 0 and "is written" not in done.stdout


def test_what_is_in_the_way_is_said_before(
    server: hub_server.Hub, push: Push, tmp_path: Path
) -> None:
    """Somebody's card makes nothing on the Hub; a public repository makes nothing here."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "README.md").write_text("somebody's")
    assert "was not written by this command" in push(output).stderr
    assert not server.created
    (output / "README.md").unlink()
    server.private = False
    done = push(output)
    assert done.returncode == 1 and "is there and public" in done.stderr
    assert not list(output.iterdir())
    assert push(output, "--public").returncode == 0


def test_nothing_is_written_without_the_hub(archives: Archives, tmp_path: Path) -> None:
    """Offline, before hours of work."""
    command = ("export", archives.folder, tmp_path / "out", "--no-checks", "--push", "me/imagenet")
    done = ended(start(tmp_path, *command))
    assert done.returncode == 1 and "Error: me/imagenet: " in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
