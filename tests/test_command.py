"""The command `imagenet2012`, as it is used in a terminal and in scripts."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import pytest
from click.testing import CliRunner
from click.testing import Result
from conftest import ROOT
from conftest import Archives
from PIL import Image
from rows import contents
from rows import wanted

from imagenet2012_tools import export
from imagenet2012_tools.cli import find_classes
from imagenet2012_tools.cli import main

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with a cache of the test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(one) for one in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result

    return invoke


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()
    }


# ------------------------------------------------------------------------- check


def test_check_sound_archives(run: Run, archives: Archives) -> None:
    before = fingerprint(archives.folder)
    result = run("check", archives.folder, "--no-checks", "--deep")
    assert result.exit_code == 0, result.output
    for words in ("train", "12", "60", "well", before[VAL]):
        assert words in result.output
    assert fingerprint(archives.folder) == before


def test_check_holds_to_the_official_figures(run: Run, archives: Archives) -> None:
    result = run("check", archives.folder)
    assert result.exit_code == 1
    assert "bytes instead of 147,897,477,120" in result.output
    assert "12 class tars instead of 1,000" in result.output
    assert "60 images instead of 1,281,167" in result.output
    assert "missing are the images of number" in result.output


def test_check_for_scripts(run: Run, archives: Archives) -> None:
    result = run("check", archives.folder, "--no-checks", "--json", "--split", "validation")
    found = json.loads(result.output)
    assert (result.exit_code, found["well"], found["missing"]) == (0, True, [])
    (report,) = found["archives"]
    assert (report["split"], report["images"], report["problems"]) == ("validation", 90, [])


def test_check_names_what_is_missing(run: Run, tmp_path: Path) -> None:
    fakes.make_archives(tmp_path, classes=0, validation=5)
    result = run("check", tmp_path, "--no-checks")
    assert result.exit_code == 1
    assert "missing" in result.output
    assert run("check", tmp_path, "--no-checks", "--split", "validation").exit_code == 0


def test_check_finds_every_fault(run: Run, tmp_path: Path) -> None:
    """Not only the first: two class tars are damaged, and a validation image stands twice."""
    fakes.make_archives(tmp_path, classes=5, per_class=3, validation=0)
    data = bytearray((tmp_path / TRAIN).read_bytes())
    for wnid in (fakes.wnids()[1], fakes.wnids()[3]):
        at = data.index(f"{wnid}_".encode())
        data[at + 130] ^= 1
    (tmp_path / TRAIN).write_bytes(data)
    members = fakes.flat_images("val", 4)
    (tmp_path / VAL).write_bytes(fakes.tar([*members, members[0]]))
    result = run("check", tmp_path, "--no-checks")
    assert result.exit_code == 1
    assert result.output.count("a member's header belongs here") == 2
    assert f"{members[0][0]} stands twice" in result.output


def test_check_of_a_wrong_folder_is_a_paragraph(run: Run, tmp_path: Path) -> None:
    result = run("check", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "not there" in result.output
    assert "Traceback" not in result.output


# ------------------------------------------------------------------------- show


def test_show(run: Run, archives: Archives, tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    sheets = []
    for seed in (0, 1, 0):
        options = ("--no-checks", "--seed", seed, "--count", 9, "-o", target)
        assert run("show", archives.folder, *options).exit_code == 0
        sheets.append(target.read_bytes())
    assert sheets[0] == sheets[2] != sheets[1]
    with Image.open(io.BytesIO(sheets[0])) as image:
        assert image.format == "PNG" and image.width > 1000 and image.height > 300


def test_show_classes(run: Run, archives: Archives, tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    options = ("--no-checks", "--split", "train", "-o", target)
    result = run("show", archives.folder, *options, "--classes", "tench,n01443537")
    assert "10 train images" in result.output
    result = run("show", archives.folder, *options, "--classes", "unicorn")
    assert result.exit_code == 1 and "No class is called 'unicorn'" in result.output
    result = run("show", archives.folder, *options, "--classes", "toilet tissue")
    assert result.exit_code == 1 and "No image of these classes" in result.output


def test_find_classes() -> None:
    names = [line.split("\t")[1] for line in (ROOT / "labels/classes.tsv").read_text().splitlines()]
    assert find_classes("Tinca tinca, n01443537,2,crane", names) == [0, 1, 2, 134]
    assert find_classes("crane2", names) == [517]


# ------------------------------------------------------------------------- prepare


def test_prepare_is_found_by_load(run: Run, archives: Archives, tmp_path: Path) -> None:
    import imagenet2012

    assert run("prepare", archives.folder, "--no-checks", "--num-proc", 2).exit_code == 0
    made = sorted(tmp_path.rglob("*.arrow"))
    imagenet2012.load(archives.folder)
    assert sorted(tmp_path.rglob("*.arrow")) == made


def exported(run: Run, archives: Archives, output: Path, *options: object) -> Any:
    arguments = (
        "--no-checks",
        "--num-proc",
        2,
        "--output",
        output,
        "--shard-size",
        "50kB",
        *options,
    )
    result = run("prepare", archives.folder, *arguments)
    assert result.exit_code == 0, result.output
    return datasets.load_dataset(str(output), cache_dir=str(output.with_name("loaded")))


def test_export(run: Run, archives: Archives, tmp_path: Path) -> None:
    """What is written needs nothing but `datasets`, is shuffled and in even shards."""
    loaded = exported(run, archives, tmp_path / "out")
    assert set(loaded) == {"train", "validation", "test"}
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(archives.expected[split])
        assert dataset.features["image"] == datasets.Image(mode="RGB")
        assert dataset.features["label"].num_classes == 1000
    assert loaded["train"]["file_name"][:] != list(archives.expected["train"])
    sizes = [
        datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "c")).num_rows
        for path in (tmp_path / "out" / "data").glob("train-*")
    ]
    assert len(sizes) > 3 and max(sizes) - min(sizes) <= 1


def test_export_needs_no_package(run: Run, archives: Archives, tmp_path: Path) -> None:
    exported(run, archives, tmp_path / "out")
    code = (
        "import sys, datasets\n"
        "d = datasets.load_dataset(sys.argv[1], cache_dir=sys.argv[2])\n"
        "assert 'imagenet2012' not in sys.modules\n"
        "print(d['validation'][0]['image'].mode, d['train'].features['label'].names[0])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out"), str(tmp_path / "fresh")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "RGB tench, Tinca tinca\n", done.stderr


def test_export_resized(run: Run, tmp_path: Path) -> None:
    images = {"n01440764_1.JPEG": fakes.jpeg(1, size=(300, 200)), "n01440764_2.JPEG": fakes.jpeg(2)}
    images["n01440764_3.JPEG"] = fakes.rotated(3, size=(300, 200))
    images["n01440764_4.JPEG"] = fakes.jpeg(4, mode="CMYK", size=(200, 300))
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / TRAIN).write_bytes(fakes.train_tar({"n01440764": list(images.items())}))
    loaded = exported(run, Archives(folder, {}), tmp_path / "out", "--size", 100)["train"]
    found = {row["file_name"]: row["image"].size for row in loaded}
    assert found == {
        "n01440764_1.JPEG": (150, 100),
        "n01440764_2.JPEG": (96, 72),
        "n01440764_3.JPEG": (150, 100),
        "n01440764_4.JPEG": (100, 150),
    }
    stored = {name: data for name, data, _ in contents(loaded)}
    assert stored["n01440764_2.JPEG"] == images["n01440764_2.JPEG"]
    assert "to it, upright, as JPEG of quality 90" in " ".join(
        (tmp_path / "out" / "README.md").read_text().split()
    )
    brightness = Image.open(io.BytesIO(stored["n01440764_3.JPEG"])).convert("L").resize((1, 2))
    upright = fakes.draw(3, (300, 200)).convert("L").resize((1, 2))
    assert all(abs(a - b) < 6 for a, b in zip(brightness.tobytes(), upright.tobytes(), strict=True))


def test_resizing_names_what_it_cannot_decode() -> None:
    with pytest.raises(OSError, match=r"n01440764_1\.JPEG"):
        export.resized(b"no image", "n01440764_1.JPEG", 100, 90)


def test_export_goes_on_where_it_was(run: Run, archives: Archives, tmp_path: Path) -> None:
    """Finished shards are kept, a damaged one is made again, and an unfinished one is no shard."""
    output = tmp_path / "out"
    exported(run, archives, output)
    shards = sorted((output / "data").glob("*.parquet"))
    before = {path: path.stat().st_mtime_ns for path in shards}
    damaged, missing = shards[1], shards[2]
    damaged.write_bytes(damaged.read_bytes()[:-5])
    missing.unlink()
    loaded = exported(run, archives, output)
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(archives.expected[split])
    changed = {path for path in shards if path.stat().st_mtime_ns != before[path]}
    assert changed == {damaged, missing}


def test_export_of_another_plan_is_refused(run: Run, archives: Archives, tmp_path: Path) -> None:
    output = tmp_path / "out"
    exported(run, archives, output)
    before = fingerprint(output / "data")
    result = run("prepare", archives.folder, "--no-checks", "--output", output, "--num-proc", 1)
    assert result.exit_code == 1
    assert "shards of another export" in result.output
    assert fingerprint(output / "data") == before


def test_export_is_interrupted(archives: Archives, tmp_path: Path) -> None:
    """Killed for real; what is there afterwards is whole, and a second run completes it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    output = tmp_path / "out"
    command = [sys.executable, "-m", "imagenet2012_tools", "prepare", str(archives.folder)]
    command += ["--no-checks", "--num-proc", "1", "--output", str(output), "--shard-size", "5kB"]
    process = subprocess.Popen(command, env=env, start_new_session=True)
    while process.poll() is None and len(list(output.glob("data/*.parquet"))) < 3:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = {p: p.stat().st_mtime_ns for p in output.glob("data/*.parquet")}
    assert first
    subprocess.run(command, env=env, check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    loaded = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "loaded"))
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(archives.expected[split])
    assert not list(output.glob("data/.*"))


def test_push_needs_an_output(run: Run, archives: Archives) -> None:
    result = run("prepare", archives.folder, "--push", "me/imagenet")
    assert result.exit_code == 2 and "--output" in result.output


def test_push_up_to_the_network(run: Run, archives: Archives, tmp_path: Path) -> None:
    """Offline the upload ends in an error of one paragraph; the folder is there."""
    options = (
        "--no-checks",
        "--num-proc",
        1,
        "--output",
        tmp_path / "out",
        "--push",
        "me/imagenet",
    )
    result = CliRunner().invoke(main, ["prepare", str(archives.folder), *map(str, options)])
    assert result.exit_code == 1
    assert "You answer for who may see these images" in result.output
    assert (tmp_path / "out" / "README.md").exists()


# ------------------------------------------------------------------------- as a command


@pytest.mark.parametrize("arguments", [[], ["check"], ["show"], ["prepare"]])
def test_help_fits_a_terminal(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=80)
    assert "Examples:\n" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_as_a_module(archives: Archives, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "imagenet2012_tools", "check", str(archives.folder)]
    done = subprocess.run([*command, "--no-checks"], env=env, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == "", "it is quiet where nobody looks"
