"""Uploads to a server on this machine that speaks as the Hub does, by the command as it is used."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import hub_server
import pytest
from conftest import ROOT, Archives

Push = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server() -> Iterator[hub_server.Hub]:
    with hub_server.running() as hub:
        yield hub


@pytest.fixture
def push(server: hub_server.Hub, archives: Archives, tmp_path: Path) -> Push:
    """Export to a folder and push it; offline is off, as the server is all there is."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    env |= {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"}

    def run(output: Path, *options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "imagenet2012", "export", str(archives.folder)]
        command += [str(output), "--no-checks", "--split", "validation", "--num-proc", "1"]
        command += ["--push", "me/imagenet", *options]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    return run


def test_nothing_is_made_on_the_hub_before_all_is_known(
    server: hub_server.Hub, push: Push, archives: Archives, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("somebody's")
    assert "was not written by this command" in push(tmp_path / "out").stderr
    assert not server.created


def shards(server: hub_server.Hub) -> set[str]:
    return {name for name in server.files if name.startswith("data/")}


def written(output: Path) -> set[str]:
    return {f"data/{path.name}" for path in output.glob("data/*.parquet")}


def test_a_push_replaces_another_sharding(
    server: hub_server.Hub, push: Push, archives: Archives, tmp_path: Path
) -> None:
    server.files["notes.txt"] = server.files["data/other/old.bin"] = b"somebody's"
    for output, size in ((tmp_path / "few", "1MB"), (tmp_path / "many", "50kB")):
        done = push(output, "--shard-size", size)
        assert done.returncode == 0, done.stderr
        assert "Uploaded to the dataset repository me/imagenet." in done.stdout
        assert shards(server) == written(output)
        assert b'load_dataset("me/imagenet")' in server.files["README.md"]
    assert server.files["notes.txt"] == b"somebody's", "it is not in data/"
    for name, data in server.files.items():
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    there = datasets.load_dataset(str(tmp_path / "there"), cache_dir=str(tmp_path / "cache"))
    assert sorted(there["validation"]["file_name"]) == sorted(archives.expected["validation"])


def test_a_push_of_one_commit_removes_what_is_old(
    server: hub_server.Hub, push: Push, tmp_path: Path
) -> None:
    """As no reader should meet both shardings."""
    server.files["data/validation-00000-of-00009.parquet"] = b"old"
    assert push(tmp_path / "out").returncode == 0
    (commit,) = server.commits
    assert commit["deletedFile"] == ["data/validation-00000-of-00009.parquet"]


def test_a_push_that_was_resumed_removes_what_is_old(
    server: hub_server.Hub, push: Push, tmp_path: Path
) -> None:
    """The files had all arrived, but what is old was not removed."""
    assert push(tmp_path / "out").returncode == 0
    server.files["data/validation-00000-of-00009.parquet"] = b"old"
    done = push(tmp_path / "out")
    assert done.returncode == 0 and "All of it was there" in done.stdout
    assert shards(server) == written(tmp_path / "out")


def test_a_push_sends_nothing_but_the_export(
    server: hub_server.Hub, push: Push, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    (output / "data").mkdir(parents=True)
    for name in ("notes.txt", "data/mine.parquet", "data/.mine.parquet.crc"):
        (output / name).write_text("mine")
    assert push(output).returncode == 0
    assert set(server.files) == {".gitattributes", "README.md", *written(output)} - {
        "data/mine.parquet"
    }


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "Private repository storage limit reached"), (401, "Invalid credentials")],
)
def test_a_failed_upload_keeps_its_reason(
    server: hub_server.Hub, push: Push, tmp_path: Path, status: int, words: str
) -> None:
    """The shards stay, and the next push goes on with them."""
    server.refusal = status, words
    done = push(tmp_path / "out")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert words in done.stderr and "the same command goes on" in done.stderr
    server.refusal = None
    done = push(tmp_path / "out")
    assert done.returncode == 0 and "All of it was there" in done.stdout


def test_push_makes_a_private_repository_only(
    server: hub_server.Hub, push: Push, tmp_path: Path
) -> None:
    server.private = False
    done = push(tmp_path / "out")
    assert done.returncode == 1 and "is there and public" in done.stderr
    assert not (tmp_path / "out").exists()
    assert push(tmp_path / "out", "--public").returncode == 0


def test_nothing_is_written_without_the_hub(archives: Archives, tmp_path: Path) -> None:
    """Offline, before hours of work."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "imagenet2012", "export", str(archives.folder)]
    command += [str(tmp_path / "out"), "--no-checks", "--push", "me/imagenet"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Error: me/imagenet: " in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
