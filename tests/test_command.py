"""The command `imagenet2012`: what may be typed, `prepare` and `show`."""

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import fakes
import pytest
from click.testing import CliRunner, Result
from conftest import HANG, ROOT, Archives
from PIL import Image, ImageChops

import imagenet2012
from imagenet2012 import sheet
from imagenet2012.cli import main
from imagenet2012.sheet import find_classes

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
VERBS = ("check", "show", "prepare", "index", "export")
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with a cache of the test's own, in this process if it may choose."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMAGENET2012_DIR", raising=False)
    alone = {verb: {"num_proc": 1} for verb in VERBS}

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(one) for one in arguments], default_map=alone)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result

    return invoke


def fingerprint(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


# ------------------------------------------------------------------------- what may be typed


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS)])
def test_help_fits_a_screen(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=80)
    lines = result.output.splitlines()
    assert "Examples:\n" in result.output
    assert max(map(len, lines)) <= 80 and len(lines) <= 40


def test_as_a_module(archives: Archives, tmp_path: Path) -> None:
    """It is quiet where nobody looks."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "imagenet2012", "check", str(archives.folder)]
    done = subprocess.run([*command, "--no-checks"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


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
        ["export", "D", "out", "--shards", "3"],
        ["index", "D", "out", "--size", "64"],
        ["index", "D", "out", "--shards", "0"],
        ["prepare", "D", "--portable"],
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
def test_a_wrong_folder_is_a_sentence(verb: str, run: Run, tmp_path: Path) -> None:
    result = run(verb, tmp_path / "nowhere", *([tmp_path / "out"] if verb[1] in "nx" else []))
    assert result.exit_code == 1 and result.output.startswith("Error: ")
    assert "does not exist" in result.output and len(result.output.splitlines()) < 4


@pytest.mark.parametrize("verb", ["show", "prepare", "index", "export"])
def test_sizes_are_held_to_the_official_ones(
    verb: str, run: Run, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(verb, archives.folder, *(["out"] if verb in ("index", "export") else []))
    assert result.exit_code == 1 and "--no-checks" in result.output
    assert not Path("out").exists() and not list(tmp_path.glob("*.png"))


def test_what_was_loaded_without_checks_is_checked(
    run: Run, archives: Archives, tmp_path: Path
) -> None:
    assert run("index", archives.folder, tmp_path / "a", "--no-checks").exit_code == 0
    result = run("export", archives.folder, tmp_path / "b")
    assert result.exit_code == 1 and "--no-checks" in result.output
    assert not (tmp_path / "b").exists()


# ------------------------------------------------------------------------- prepare


@pytest.mark.parametrize("processes", [1, 2])
def test_prepare_is_found_by_load(
    processes: int, run: Run, archives: Archives, tmp_path: Path
) -> None:
    """By both ways of loading: nobody should copy 144 GiB twice."""
    result = run("prepare", archives.folder, "--no-checks", "--num-proc", processes)
    assert result.exit_code == 0 and "validation: 90 images in" in result.output
    made = sorted(tmp_path.rglob("*.arrow"))
    for split in ("train", None):
        imagenet2012.load(archives.folder, split=split)
    datasets.load_dataset("imagenet2012", data_dir=str(archives.folder))
    assert sorted(tmp_path.rglob("*.arrow")) == made != []


def test_prepare_of_a_split(run: Run, archives: Archives, tmp_path: Path) -> None:
    result = run("prepare", archives.folder, "--no-checks", "--split", "validation")
    assert "validation: 90 images in" in result.output and "train" not in result.output
    made = sorted(tmp_path.rglob("*.arrow"))
    imagenet2012.load(archives.folder, split="validation")
    assert sorted(tmp_path.rglob("*.arrow")) == made


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


def test_show_passes_over_broken_images(run: Run, tmp_path: Path) -> None:
    members = fakes.flat_images("val", 40)
    for sound in (8, 0):
        broken = [(name, data[:700]) for name, data in members[sound:]]
        (tmp_path / VAL).write_bytes(fakes.tar([*members[:sound], *broken]))
        picture = tmp_path / f"{sound}.png"
        result = run("show", tmp_path, "--no-checks", "--count", 6, "-o", picture)
        passed = re.search(r"Passed over: .*_val_\d{8}\.JPEG: .*truncated", result.output)
        assert bool(passed) == (sound > 0)
        assert (result.exit_code == 0) == picture.exists() == (sound > 0), result.output
    assert "None of these images can be decoded" in result.output


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


def test_show_classes(run: Run, archives: Archives, tmp_path: Path) -> None:
    options = ("--no-checks", "--split", "train", "-o", tmp_path / "sheet.png")
    result = run("show", archives.folder, *options, "--classes", "tench,n01443537")
    assert "10 train images" in result.output
    result = run("show", archives.folder, *options, "--classes", "toilet tissue")
    assert result.exit_code == 1 and "No image of these classes" in result.output
    result = run("show", archives.folder, *options, "--classes", "unicorn")
    assert result.exit_code == 1 and "No class is called 'unicorn'" in result.output


def test_classes_go_by_name_wnid_and_label() -> None:
    names = imagenet2012.Imagenet2012().info.features["label"].names
    assert find_classes("tench, n01443537,2 ,Crane", names) == [0, 1, 2, 134]
    assert find_classes("crane2", names) == [517]


def test_a_sheet_keeps_pictures_and_captions_apart() -> None:
    """Nothing is drawn into the margins; each picture stands on its caption."""
    pictures = [Image.new("RGB", size, "red") for size in ((300, 100), (100, 300), (9, 9))]
    rows = [{"file_name": "n1_1.JPEG", "image": image, "label": 0} for image in pictures]
    drawn = sheet.draw(rows, ["a name that is much too long for the width of a picture"], 2)
    paper = Image.new("RGB", drawn.size, "white")
    left, top, right, bottom = ImageChops.difference(drawn, paper).getbbox() or (0, 0, 0, 0)
    assert min(left, top, drawn.width - right, drawn.height - bottom) >= sheet.MARGIN - 1
    for column in (0, 1):
        x = sheet.MARGIN + column * (sheet.TILE + sheet.GAP) + sheet.TILE // 2
        assert drawn.getpixel((x, sheet.MARGIN + sheet.TILE - 2)) == (255, 0, 0)


# ------------------------------------------------------------------------- interrupted


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs to see children")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_check_is_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C ends it and its workers; so does killing it."""
    members = fakes.flat_images("val", 3000, size=(1600, 1200))
    (tmp_path / VAL).write_bytes(fakes.tar(members))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "imagenet2012", "check", str(tmp_path / VAL), "--decode"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=env, text=True, start_new_session=True, **pipes)
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
