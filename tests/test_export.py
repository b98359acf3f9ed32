"""Exports that were damaged, or that others work on; and folders that may not be written to."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from conftest import ROOT, Archives

import imagenet2012
from imagenet2012 import export, seal
from imagenet2012.lock import locked
from imagenet2012_command import main

Run = Callable[..., Result]


@pytest.fixture
def run(archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Export the validation split with a cache of the test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    common = ("--no-checks", "--split", "validation", "--num-proc", "1")

    def invoke(*options: object) -> Result:
        small = ("--shard-size", "20kB") if "--output" in options else ()
        arguments = ("prepare", archives.folder, *common, *small, *options)
        result = CliRunner().invoke(main, [str(one) for one in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result

    return invoke


# ------------------------------------------------------------------------- damage

SMALL = pa.schema([("file_name", pa.string()), ("label", pa.int64())])
RECORD = {"split": "validation", "shards": 1}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A sealed file of a few columns, written as a shard is, so that each bit can be tried."""
    path = tmp_path / "validation-00000-of-00001.parquet"
    schema = SMALL.with_metadata({export.PLAN: json.dumps(RECORD)})
    with seal.SealedFile(path) as file:
        with pq.ParquetWriter(file, schema, write_page_index=True) as writer:
            for start in (0, 3):
                names = [f"{n}.JPEG" for n in range(start, start + 3)]
                writer.write_table(pa.table([names, [1, 2, 3]], schema=schema))
        file.seal()
    return path


def test_every_byte_of_a_shard_is_proven(small: Path) -> None:
    """Of data, page headers, page index, seal and footer; none makes it somebody else's.

    Every third bit is flipped, so two or three of each byte.
    """
    schema, names = pq.read_schema(small), [f"{n}.JPEG" for n in range(6)]
    assert export.is_finished(small, schema, names)
    assert export.read_record(small) == RECORD
    data, small = bytearray(small.read_bytes()), small.with_name("damaged.parquet")
    for bit in range(0, 8 * len(data), 3):
        data[bit // 8] ^= 1 << bit % 8
        small.write_bytes(data)
        assert not export.is_finished(small, schema, names), bit
        assert export.read_record(small) in (None, RECORD), bit
        data[bit // 8] ^= 1 << bit % 8


def test_a_shard_that_is_cut_or_longer_is_not_finished(small: Path) -> None:
    schema, names = pq.read_schema(small), [f"{n}.JPEG" for n in range(6)]
    data = small.read_bytes()
    for cut in (*range(0, len(data), 7), *range(len(data) - 20, len(data))):
        small.write_bytes(data[:cut])
        assert not export.is_finished(small, schema, names)
        assert export.read_record(small) is None
    small.write_bytes(data + b"\0")
    assert not export.is_finished(small, schema, names)


def test_other_readers_pass_over_the_seal(small: Path) -> None:
    table = pq.read_table(small, filters=[("label", "==", 2)])
    assert table["file_name"].to_pylist() == ["1.JPEG", "4.JPEG"]
    with pq.ParquetFile(small, page_checksum_verification=True) as file:
        assert file.metadata.num_rows == 6


def test_damaged_footers_are_written_anew(run: Run, tmp_path: Path) -> None:
    """By the command: also where the plan that the footer records is what was damaged."""
    output = tmp_path / "out"
    assert run("--output", output).exit_code == 0
    sound = {shard: shard.read_bytes() for shard in sorted(output.glob("data/*.parquet"))}
    parts = (b'"seed": 0', b"imagenet2012", seal.MARK, b"PAR1", b"label")
    for (shard, data), part in zip(sound.items(), parts, strict=False):
        damaged = bytearray(data)
        damaged[data.rindex(part) + len(part) - 1] ^= 1
        shard.write_bytes(damaged)
    result = run("--output", output)
    assert result.exit_code == 0, result.output
    assert {shard: shard.read_bytes() for shard in sound} == sound
    assert len(sound) >= len(parts)


def test_parquet_of_somebody_else_is_left_alone(run: Run, tmp_path: Path) -> None:
    """Under the name of a shard, even where its rows speak of this package."""
    output = tmp_path / "out"
    assert run("--output", output).exit_code == 0
    (shard, *_) = sorted(output.glob("data/*.parquet"))
    pq.write_table(pa.table({"url": ["imagenet2012://a/1-2/n01440764_1.JPEG"]}), shard)
    before = shard.read_bytes()
    result = run("--output", output)
    assert result.exit_code == 1 and "of another export" in result.output
    assert shard.read_bytes() == before


def test_other_label_names_are_another_export(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run("--output", output, "--label-names", "wnid").exit_code == 0
    names = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "c"), split="validation")
    assert names.features["label"].names[0] == "n01440764"
    result = run("--output", output)
    assert result.exit_code == 1 and "made with label_names wnid, not words" in result.output


def test_a_store_that_tells_no_version(archives: Archives, tmp_path: Path) -> None:
    """Nor is a name with blanks in it taken apart."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    path = folder / "my val 7.tar"
    path.write_bytes((archives.folder / "ILSVRC2012_img_val.tar").read_bytes())
    dataset = imagenet2012.load(
        data_files={"validation": str(path)},
        name="in_place",
        split="validation",
        verification_mode="no_checks",
        cache_dir=str(tmp_path / "cache"),
    )
    plan = export.make_plan(dataset, "validation", str(path), tmp_path)
    plan = export.dataclasses.replace(plan, archive_version="")
    assert (plan.archive, plan.archive_bytes) == ("my val 7.tar", path.stat().st_size)
    assert export.export([(dataset, plan)], tmp_path / "out", 1, lambda _: None) == 1
    assert export.export([(dataset, plan)], tmp_path / "out", 1, lambda _: None) == 0


# ------------------------------------------------------------------------- others

HOLDER = """
import sys, time
from pathlib import Path
from imagenet2012.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lock of the folder `out`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, env=env, text=True, **pipes) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_export_is_refused_while_the_first_is_at_work(
    run: Run, holder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    result = run("--output", tmp_path / "out")
    assert result.exit_code == 1
    assert f"Process {holder.pid} on {os.uname().nodename} is writing to " in result.output
    assert not (tmp_path / "out" / "data").exists()


def test_the_lock_ends_with_its_holder(
    run: Run, holder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert run("--output", tmp_path / "out").exit_code == 0


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass


def test_only_leftovers_of_this_plan_are_removed(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run("--output", output).exit_code == 0
    (shard, *_) = sorted(output.glob("data/*.parquet"))
    kept = [".mine.parquet.crc", f".{shard.name}.crc", f".{shard.name}.part", f"{shard.name}.bak"]
    kept += [f".validation-00000-of-00999.parquet.{'0' * 32}"]
    for name in (*kept, f".{shard.name}.{'0' * 32}"):
        (shard.parent / name).write_bytes(b"?")
    assert run("--output", output).exit_code == 0
    assert {p.name for p in shard.parent.iterdir() if p.suffix != ".parquet"} == set(kept)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Make the folder `out` a mount that may only be read."""
    output = tmp_path / "out"
    output.mkdir()
    command = ["mount", "--bind", str(output), str(output)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")

    def make() -> None:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(output)], check=True)

    yield make
    subprocess.run(["umount", "-l", str(output)], check=True)


def test_a_finished_export_on_a_read_only_disk(
    run: Run, read_only: Callable[[], None], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert run("--output", output).exit_code == 0
    leftover = next(output.glob("data/*.parquet")).name
    (output / "data" / f".{leftover}.{'0' * 32}").write_bytes(b"?")
    read_only()
    result = run("--output", output)
    assert result.exit_code == 0, result.output
    assert "All of it was there, whole: no shard was written." in result.output


def test_an_unfinished_export_on_a_read_only_disk(
    run: Run, read_only: Callable[[], None], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert run("--output", output).exit_code == 0
    next(output.glob("data/*.parquet")).unlink()
    read_only()
    result = run("--output", output)
    assert result.exit_code == 1
    assert "Read-only file system" in result.output and "Traceback" not in result.output


def test_a_finished_export_on_a_full_disk(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--output", tmp_path / "out").exit_code == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil_usage(0))
    assert run("--output", tmp_path / "out").exit_code == 0


def shutil_usage(free: int) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(free=free)


# ------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        ("--output", "s3://bucket/out"),
        ("--output=file:///tmp/out",),
        ("--cache-dir", "hf://datasets/me/cache"),
    ],
)
def test_urls_to_write_to_are_refused(
    run: Run, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*options)
    assert result.exit_code == 2
    assert "is a URL, and only files of this machine are written" in result.output
    assert not list(tmp_path.iterdir())


def test_show_does_not_draw_to_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["show", ".", "-o", "s3://bucket/sheet.png"])
    assert result.exit_code == 2 and "is a URL" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "D", "--output", "out", "--push", ""],
        ["prepare", "D", "--output", "out", "--push="],
        ["prepare", "D", "--output", " "],
        ["prepare", "D", "--cache-dir", ""],
        ["prepare", ""],
        ["check", ""],
        ["show", "D", "--classes", ""],
        ["show", "D", "-o", ""],
    ],
)
def test_empty_values_are_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "is empty: is a variable unset" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "D", "--output", "o", "--seed", "-1"],
        ["show", "D", "--seed=-1"],
        ["prepare", "D", "--output", "o", "--order", "mixed"],
        ["prepare", "D", "--output", __file__],
    ],
)
def test_options_are_refused_before_the_work(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


@pytest.mark.parametrize("name", ["parquet", "me/imagenet", "imagefolder"])
def test_what_is_printed_loads_what_was_written(
    run: Run, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the folder is called as another builder or a repository is, and from elsewhere."""
    monkeypatch.chdir(tmp_path)
    result = run("--output", name)
    (line,) = [line for line in result.output.splitlines() if line.startswith("Load it with: ")]
    call = line.partition(": ")[2]
    assert call.removeprefix("datasets.") in Path(name, "README.md").read_text()
    monkeypatch.chdir("/")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "loaded")
    loaded = eval(call, {"datasets": datasets})
    assert loaded["validation"].num_rows == 90


def test_the_cache_takes_the_options_of_load(archives: Archives, run: Run, tmp_path: Path) -> None:
    options = ("--label-names", "wnid", "--order", "mixed", "--cache-dir", tmp_path / "there")
    assert run(*options).exit_code == 0
    made = sorted(tmp_path.rglob("*.arrow"))
    loaded = imagenet2012.load(
        archives.folder,
        split="validation",
        label_names="wnid",
        order="mixed",
        cache_dir=str(tmp_path / "there"),
    )
    assert loaded.features["label"].names[0] == "n01440764"
    assert sorted(tmp_path.rglob("*.arrow")) == made != []


def test_warnings_say_that_they_are(tmp_path: Path) -> None:
    """Here of a copy whose archive is gone."""
    folder = tmp_path / "archives"
    fakes.make_archives(folder, classes=0, validation=3)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "imagenet2012", "prepare", str(folder), "--no-checks"]
    command += ["--split", "validation", "--num-proc", "1"]
    said = []
    for _ in range(2):
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        said.append(done.stderr)
        for archive in folder.iterdir():
            archive.unlink()
    assert said[0] == "" and said[1].startswith("Warning: No validation archive was found"), said


# ------------------------------------------------------------------------- interrupted


def start(archives: Archives, tmp_path: Path, *options: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "imagenet2012", "prepare", str(archives.folder)]
    command += ["--no-checks", "--output", str(tmp_path / "out"), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, start_new_session=True, text=True, **pipes)


def has_spawned(group: int) -> bool:
    """Tell whether a worker of the process group has been started."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended
            told = (process / "cmdline").read_bytes()
            if b"spawn_main" in told and os.getpgid(int(process.name)) == group:
                return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_ctrl_c_while_the_workers_start(archives: Archives, tmp_path: Path) -> None:
    """As a terminal does it, to all processes; those which are importing say nothing."""
    process = start(archives, tmp_path, "--num-proc", "2", "--shard-size", "5kB")
    while process.poll() is None and not has_spawned(process.pid):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in errors and errors.strip().endswith("Aborted!"), errors


def test_the_progress_moves_with_images(run: Run, tmp_path: Path, archives: Archives) -> None:
    """Not with shards, nor with row groups; and what was found is told as what is written."""
    dataset = imagenet2012.load(
        archives.folder,
        "in_place",
        split="validation",
        verification_mode="no_checks",
        cache_dir=str(tmp_path / "cache"),
    )
    (path,) = map(str, archives.folder.glob("*_val.tar"))
    told: list[int] = []
    plan = export.make_plan(dataset, "validation", path, tmp_path, size=64, progress=told.append)
    assert told == [1] * 90  # the estimate
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "advance", steps.append)
        patch.setattr(seal, "CHUNK", 1 << 14)
        for most in (1, 45):
            steps.clear()
            export.write_shard(dataset, plan, 0, str(tmp_path))
            assert sum(steps) == 90 and max(steps) <= most
