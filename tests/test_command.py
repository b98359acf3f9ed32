"""The command `imagenet2012`: what may be typed, `prepare` and `show`."""

import io
import os
import re
import signal
import time
from pathlib import Path

import datasets
import fakes
import pytest
from click.testing import CliRunner
from conftest import HANG, Archives, Run, start
from layouts import VAL
from PIL import Image

import imagenet2012
from imagenet2012.cli import main

VERBS = ("check", "show", "prepare", "index", "export")


# ------------------------------------------------------------------------- what may be typed


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS)])
def test_help_fits_a_screen(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=80)
    lines = result.output.splitlines()
    assert "Examples:\n" in result.output
    assert max(map(len, lines)) <= 80 and len(lines) <= 40


@pytest.mark.parametrize("verb", VERBS)
def test_the_folder_may_be_left_out(
    verb: str, run: Run, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the variable names it, which it does not if it is empty."""
    monkeypatch.chdir(tmp_path)
    output = ["out"] if verb in ("index", "export") else []
    result = run(verb, *output)
    assert result.exit_code == 2 and "IMAGENET2012_DIR is not set" in result.output
    result = run(verb, "", *output)
    assert result.exit_code == 2 and "DIR is missing or empty" in result.output
    monkeypatch.setenv("IMAGENET2012_DIR", str(archives.folder))
    result = run(verb, *output, "--no-checks")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["index", "D", "out", "more"],
        ["export", "D", "s3://bucket/out"],
        ["export", "D", ""],
        ["export", "D", "out", "--shard-size", "7bananas"],
        ["export", "D", "out", "--shard-size=-1MB"],
        ["index", "D", "out", "--size", "64"],
        ["index", "D", "out", "--shards", "0"],
        ["show", "D", "--seed=-1"],
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments).exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_folder_or_archive_is_a_sentence(
    verb: str, run: Run, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written then. Sizes are held to the official ones, once they were not too."""
    monkeypatch.chdir(tmp_path)
    output = ["out"] if verb in ("index", "export") else []
    result = run(verb, tmp_path / "nowhere", *output)
    assert result.exit_code == 1 and result.output.startswith("Error: ")
    assert "does not exist" in result.output and len(result.output.splitlines()) < 4
    assert run("index", archives.folder, "unchecked", "--no-checks").exit_code == 0
    result = run(verb, archives.folder, *output)
    assert result.exit_code == 1 and (verb == "check" or "--no-checks" in result.output)
    assert not list(tmp_path.glob("out")) and not list(tmp_path.glob("*.png"))


# ------------------------------------------------------------------------- prepare


@pytest.mark.parametrize("options", [(), ("--num-proc", 2), ("--split", "validation")])
def test_prepare_is_found_by_load(
    options: tuple[object, ...], run: Run, archives: Archives, tmp_path: Path
) -> None:
    """By both ways of loading: nobody should copy 144 GiB twice."""
    result = run("prepare", archives.folder, "--no-checks", *options)
    assert result.exit_code == 0 and "validation: 90 images in" in result.output
    made = sorted(tmp_path.rglob("*.arrow"))
    if "--split" in options:
        imagenet2012.load(archives.folder, split="validation")
    else:
        imagenet2012.load(archives.folder)
        datasets.load_dataset("imagenet2012", data_dir=str(archives.folder))
    assert sorted(tmp_path.rglob("*.arrow")) == made != []


# ------------------------------------------------------------------------- show


def test_show(run: Run, archives: Archives, tmp_path: Path) -> None:
    """The seed decides; it is a PNG under any name."""
    target = tmp_path / "sheet"
    sheets = []
    for seed in (0, 1, 0):
        options = ("--no-checks", "--seed", seed, "--count", 9, "-o", target)
        result = run("show", archives.folder, *options)
        assert result.exit_code == 0 and "9 validation images" in result.output, result.output
        sheets.append(target.read_bytes())
    assert sheets[0] == sheets[2] != sheets[1]
    with Image.open(io.BytesIO(sheets[0])) as image:
        assert image.format == "PNG" and image.width > 1000 and image.height > 300


def test_show_names_a_broken_image(run: Run, tmp_path: Path) -> None:
    members = [(name, data[:700]) for name, data in fakes.flat_images("val", 2)]
    (tmp_path / VAL).write_bytes(fakes.tar(members))
    result = run("show", tmp_path, "--no-checks", "-o", tmp_path / "sheet.png")
    assert result.exit_code == 1 and not (tmp_path / "sheet.png").exists()
    assert re.search(r"_val_\d{8}\.JPEG: .*truncated", result.output), result.output


@pytest.mark.parametrize("name", ["ILSVRC2012_img_test.tar", "sheet.jpg", "sheet.png"])
def test_show_overwrites_nothing_but_pictures(
    name: str, run: Run, archives: Archives, tmp_path: Path
) -> None:
    target = tmp_path / name
    target.write_bytes(b"precious")
    result = run("show", archives.folder, "--no-checks", "-o", target)
    assert result.exit_code == 1 and name in result.output
    assert target.read_bytes() == b"precious"
    for _ in range(2):
        again = tmp_path / "other.png"
        assert run("show", archives.folder, "--no-checks", "-o", again).exit_code == 0


# ------------------------------------------------------------------------- interrupted


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs to see children")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_check_is_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C ends it and its workers; so does killing it."""
    members = fakes.flat_images("val", 3000, size=(1600, 1200))
    (tmp_path / VAL).write_bytes(fakes.tar(members))
    process = start(tmp_path, "check", tmp_path / VAL, "--decode")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not children.read_text():
        time.sleep(0.01)
    assert process.poll() is None
    if number == signal.SIGKILL:  # of the command alone
        process.kill()
    else:
        os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=HANG)  # which waits for all that could write
    assert process.returncode != 0 and output == ""
