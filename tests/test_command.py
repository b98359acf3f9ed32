"""The command `imagenet2012`, as it is used in a terminal and in scripts."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import fakes
import fsspec
import pytest
from click.testing import CliRunner, Result
from conftest import HANG, ROOT, Archives
from huggingface_hub import DatasetCard
from imagenet2012.ilsvrc2012 import SOURCES
from PIL import Image, ImageChops

import imagenet2012
from imagenet2012 import export, sheet
from imagenet2012.sheet import find_classes
from imagenet2012_command import SPLITS, main
from rows import contents, wanted

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with a cache of the test's own, in this process if it may choose."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    defaults = {"prepare": {"num_proc": 1}}

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(one) for one in arguments], default_map=defaults)
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
    for words in ("train", "class tars               12", "90", "All OK.", before[VAL]):
        assert words in result.output
    assert "differs" not in result.output
    assert fingerprint(archives.folder) == before


def test_check_of_one_archive_behind_a_url(run: Run, archives: Archives) -> None:
    fsspec.filesystem("memory").pipe(f"/one/{VAL}", (archives.folder / VAL).read_bytes())
    result = run("check", f"memory://one/{VAL}", "--no-checks")
    assert result.exit_code == 0 and "All OK." in result.output, result.output


def test_check_holds_to_the_official_figures(run: Run, archives: Archives) -> None:
    result = run("check", archives.folder, "--deep")
    assert result.exit_code == 1
    assert "bytes instead of 147,897,477,120" in result.output
    assert "12 class tars instead of 1,000" in result.output
    assert "60 images instead of 1,281,167" in result.output
    assert "1,000 classes do not have 732 to 1,300 images: n01440764 has 5" in result.output
    assert "49,910 images are missing, of number" in result.output
    assert "its SHA-256 is not that of the original, c7e06a6c" in result.output
    assert "3 of 3 archives with problems." in result.output


def test_check_for_scripts(run: Run, archives: Archives) -> None:
    result = run("check", archives.folder, "--no-checks", "--json")
    found = json.loads(result.output)
    assert (result.exit_code, found["ok"], found["well"], found["missing"]) == (0, True, True, [])
    train, validation, test = found["archives"]
    assert (validation["split"], validation["images"], validation["problems"]) == (
        "validation",
        90,
        [],
    )
    assert train["in_class"] == dict.fromkeys(fakes.wnids()[:12], 5)
    labels = [label for _, label in archives.expected["validation"].values()]
    assert validation["in_class"] == {fakes.wnids()[n]: labels.count(n) for n in set(labels)}
    assert test["in_class"] == {}


def test_check_for_scripts_says_that_nothing_is_there(run: Run, tmp_path: Path) -> None:
    result = run("check", tmp_path, "--json")
    found = json.loads(result.output)
    assert (result.exit_code, found["ok"], found["archives"]) == (1, False, [])
    assert found["missing"] == ["train", "validation"]
    assert "which is empty" in found["error"]


def test_check_of_a_download_that_was_cut_off(run: Run, tmp_path: Path) -> None:
    """What came before is counted."""
    fakes.make_archives(tmp_path, classes=5, per_class=3, validation=0)
    data = (tmp_path / TRAIN).read_bytes()
    (tmp_path / TRAIN).write_bytes(data[: data.index(fakes.wnids()[3].encode()) + 2048])
    result = run("check", tmp_path, "--no-checks", "--json", "--split", "train")
    (report,) = json.loads(result.output)["archives"]
    assert (result.exit_code, report["class_tars"], report["images"]) == (1, 3, 9)
    assert "claims" in report["problems"][0]


def test_check_of_names_that_do_not_belong(run: Run, tmp_path: Path) -> None:
    first, second = fakes.wnids()[:2]
    images = {first: [(f"{first}_1.JPEG", b"1"), (f"{second}_2.JPEG", b"2")]}
    (tmp_path / TRAIN).write_bytes(fakes.train_tar(images))
    (tmp_path / VAL).write_bytes(fakes.tar([("ILSVRC2012_val_00050001.JPEG", b"1")]))
    result = run("check", tmp_path, "--no-checks")
    assert result.exit_code == 1
    assert f"{second}_2.JPEG is in the class tar of {first}" in result.output
    assert "00050001.JPEG has a number that no image of the validation split has" in result.output


def test_check_names_what_is_missing(run: Run, tmp_path: Path) -> None:
    fakes.make_archives(tmp_path, classes=0, validation=5)
    result = run("check", tmp_path, "--no-checks")
    assert result.exit_code == 1
    assert "missing" in result.output
    assert run("check", tmp_path, "--no-checks", "--split", "validation").exit_code == 0


def test_check_finds_every_fault(run: Run, tmp_path: Path) -> None:
    """Not only the first: two class tars are damaged, and a validation image appears twice."""
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
    assert f"{members[0][0]} appears twice" in result.output


def test_check_of_a_wrong_folder_is_a_paragraph(run: Run, tmp_path: Path) -> None:
    result = run("check", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "does not exist" in result.output
    assert "Traceback" not in result.output


def with_broken_images(folder: Path, sound: int = 3) -> list[str]:
    """Write archives in which two of the training and all but some validation images are broken."""
    wnid = fakes.wnids()[0]
    names = [f"{wnid}_{number}.JPEG" for number in range(4)]
    images = [fakes.jpeg(1), fakes.jpeg(2)[:600], b"", fakes.jpeg(3)]
    (folder / TRAIN).write_bytes(fakes.train_tar({wnid: list(zip(names, images, strict=True))}))
    members = fakes.flat_images("val", 40)
    broken = [(name, data[:700]) for name, data in members[sound:]]
    (folder / VAL).write_bytes(fakes.tar([*members[:sound], *broken]))
    return names[1:3] + [name for name, _ in broken]


def test_check_decodes_every_image(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that are broken are listed, and nothing but them; without --decode nobody looks."""
    broken = with_broken_images(tmp_path)
    assert run("check", tmp_path, "--no-checks").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(imagenet2012.check, "IMAGES_A_PROCESS", 2)  # so that there are several
        result = run("check", tmp_path, "--no-checks", "--decode")
    assert result.exit_code == 1
    assert "2 images cannot be decoded" in result.output
    assert "37 images cannot be decoded" in result.output
    listed = [line.split()[1].rstrip(":") for line in result.output.splitlines() if "JPEG:" in line]
    assert listed == broken[:2] + sorted(broken[2:])
    found = json.loads(run("check", tmp_path, "--no-checks", "--decode", "--json").output)
    train, validation = found["archives"]
    assert (found["ok"], train["decoded"], validation["decoded"]) == (False, 2, 3)
    assert list(train["broken"]) == broken[:2]
    assert train["broken"][broken[1]] == "cannot identify image file"


def test_check_goes_on_after_what_cannot_be_opened(run: Run, archives: Archives) -> None:
    folder = archives.folder.parent / "with_a_pipe"
    folder.mkdir()
    (folder / TRAIN).symlink_to(archives.folder / TRAIN)
    os.mkfifo(folder / VAL)
    for options in (("--deep",), ("--decode",)):
        result = run("check", folder, "--no-checks", "--json", *options)
        train, validation = json.loads(result.output)["archives"]
        assert result.exit_code == 1 and train["problems"] == []
        (problem,) = validation["problems"]
        assert "not a regular file" in problem


def test_check_decodes_what_can_be_read(run: Run, tmp_path: Path) -> None:
    """Also before a fault in the archive, which is told once."""
    members = fakes.flat_images("val", 4)
    data = bytearray(fakes.tar(members))
    data[data.index(members[2][0].encode()) + 130] ^= 1
    (tmp_path / VAL).write_bytes(data)
    options = ("--no-checks", "--split", "validation", "--json")
    (without,) = json.loads(run("check", tmp_path, *options).output)["archives"]
    (report,) = json.loads(run("check", tmp_path, *options, "--decode").output)["archives"]
    assert report["decoded"] == report["images"] > 0 and report["broken"] == {}
    assert report["problems"] == without["problems"] != []


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs to see children")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_check_is_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, at whatever it is, ends it and its workers in silence; killing it ends them too."""
    (tmp_path / VAL).write_bytes(fakes.tar(fakes.flat_images("val", 4000, size=(640, 480))))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "imagenet2012", "check", str(tmp_path / VAL), "--decode"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=env, text=True, start_new_session=True, **pipes)
    while process.poll() is None and not children(process.pid):
        time.sleep(0.01)
    assert process.poll() is None
    if number == signal.SIGKILL:  # of the command alone
        process.kill()
    else:
        os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=HANG)  # which waits for all that could write
    assert process.returncode != 0 and output == ""
    # A worker that is just starting when the command is killed may say so.
    assert number == signal.SIGKILL or errors.strip() == "Aborted!"


def children(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []


# ------------------------------------------------------------------------- show


def test_show_passes_over_broken_images(run: Run, tmp_path: Path) -> None:
    with_broken_images(tmp_path, sound=8)
    result = run("show", tmp_path, "--count", 6, "-o", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    assert "6 validation images" in result.output
    assert re.search(r"Passed over: .*_val_\d{8}\.JPEG: .*truncated", result.output)
    with_broken_images(tmp_path, sound=0)
    result = run("show", tmp_path, "-o", tmp_path / "none.png")
    assert result.exit_code == 1 and "None of these images can be decoded" in result.output
    assert not (tmp_path / "none.png").exists()


def test_show_warns_of_another_size(run: Run, archives: Archives, tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    result = run("show", archives.folder, "-o", target)
    assert result.exit_code == 0 and target.exists()
    size = r"has [\d,]+ bytes, the original validation archive has 6,744"
    assert re.search(rf"Warning: .*img_val\.tar {size}", result.output)
    assert "Warning" not in run("show", archives.folder, "--no-checks", "-o", target).output
    with tarfile.open(archives.folder / "ILSVRC2012_img_val.tar") as tar:
        tar.extractall(tmp_path / "tree" / "val", filter="data")
    assert "bytes, the original" not in run("show", tmp_path / "tree", "-o", target).output


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


def test_the_advice_is_for_the_command(run: Run, archives: Archives) -> None:
    result = run("prepare", archives.folder)
    assert result.exit_code == 1
    assert "pass --no-checks" in result.output and "verification_mode" not in result.output


def test_show_writes_png_under_any_name(run: Run, archives: Archives, tmp_path: Path) -> None:
    run("show", archives.folder, "--no-checks", "--count", 2, "-o", tmp_path / "sheet")
    with Image.open(tmp_path / "sheet") as image:
        assert image.format == "PNG"


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
    """By both ways of loading: nobody should copy 144 GiB twice."""
    assert run("prepare", archives.folder, "--no-checks", "--num-proc", 2).exit_code == 0
    made = sorted(tmp_path.rglob("*.arrow"))
    for split in ("train", None):
        imagenet2012.load(archives.folder, split=split)
    datasets.load_dataset("imagenet2012", data_dir=str(archives.folder))
    assert sorted(tmp_path.rglob("*.arrow")) == made


def test_prepare_of_a_split(run: Run, archives: Archives, tmp_path: Path) -> None:
    options = ("--no-checks", "--num-proc", 1, "--in-place", "--split", "validation")
    assert "validation: 90 images in" in run("prepare", archives.folder, *options).output
    made = sorted(tmp_path.rglob("*.arrow"))
    imagenet2012.load(archives.folder, "in_place", split="validation")
    assert sorted(tmp_path.rglob("*.arrow")) == made


def exported(run: Run, archives: Archives, output: Path, *options: object) -> Any:
    arguments = ("--no-checks", "--output", output, "--shard-size", "50kB", *options)
    result = run("prepare", archives.folder, *arguments)
    assert result.exit_code == 0, result.output
    return datasets.load_dataset(str(output), cache_dir=str(output.with_name("loaded")))


def test_export(run: Run, archives: Archives, tmp_path: Path) -> None:
    """What is written needs nothing but `datasets`, is shuffled and in even shards."""
    loaded = exported(run, archives, tmp_path / "out", "--num-proc", 2)
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
    assert "RGB JPEG of quality 90" in (tmp_path / "out" / "README.md").read_text()
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


def test_export_sees_damage_inside_a_shard(run: Run, archives: Archives, tmp_path: Path) -> None:
    output = tmp_path / "out"
    exported(run, archives, output, "--split", "validation")
    (shard, *_) = sorted((output / "data").glob("*.parquet"))
    sound = bytearray(shard.read_bytes())
    for part in (b"\xff\xd8\xff", b"tench, Tinca tinca"):  # an image's first bytes; the features
        damaged = sound.copy()
        damaged[sound.rindex(part) + 1] ^= 1
        shard.write_bytes(damaged)
        exported(run, archives, output, "--split", "validation")
        assert shard.read_bytes() == sound


def test_export_of_another_plan_is_refused(run: Run, archives: Archives, tmp_path: Path) -> None:
    """Even where the names of the shards are the same."""
    output = tmp_path / "out"
    exported(run, archives, output)
    before = fingerprint(output / "data")
    options = ("--no-checks", "--num-proc", 1, "--shard-size", "50kB", "--output", output)
    for other in (("--shard-size", "1MB"), ("--size", 50), ("--seed", 1)):
        result = run("prepare", archives.folder, *options, *other)
        assert result.exit_code == 1
        assert f"made with {str(other[0])[2:].replace('-', '_')} " in result.output
        assert "Nothing was changed" in result.output
    assert fingerprint(output / "data") == before


def test_export_adds_a_split(run: Run, archives: Archives, tmp_path: Path) -> None:
    """The card is about all that is there."""
    exported(run, archives, tmp_path / "out", "--split", "validation")
    assert set(exported(run, archives, tmp_path / "out", "--split", "train")) == {
        "train",
        "validation",
    }


def test_export_into_the_folder_of_the_archives_is_refused(run: Run, archives: Archives) -> None:
    before = fingerprint(archives.folder)
    result = run("prepare", archives.folder, "--no-checks", "--output", archives.folder)
    assert result.exit_code == 2 and "holds the images" in result.output
    assert fingerprint(archives.folder) == before


@pytest.mark.parametrize("name", ["ILSVRC2012_img_test.tar", "sheet.jpg", "sheet.png"])
def test_show_overwrites_nothing_but_pictures(
    run: Run, archives: Archives, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    target.write_bytes(b"precious")
    result = run("show", archives.folder, "--no-checks", "-o", target)
    assert result.exit_code == 1 and name in result.output
    assert target.read_bytes() == b"precious"
    for _ in range(2):
        again = tmp_path / "other.png"
        assert run("show", archives.folder, "--no-checks", "-o", again).exit_code == 0


def test_show_says_where_else_a_class_may_be(run: Run, tmp_path: Path) -> None:
    fakes.make_archives(tmp_path, classes=2, validation=3)
    result = run("show", tmp_path, "--no-checks", "--classes", "tench", "-o", tmp_path / "x.png")
    assert result.exit_code == 1 and "Try --split train." in result.output


def test_check_takes_one_archive_of_any_name(run: Run, archives: Archives, tmp_path: Path) -> None:
    path = tmp_path / "val.bin"
    path.symlink_to(archives.folder / "ILSVRC2012_img_val.tar")
    result = run("check", path, "--no-checks")
    assert result.exit_code == 0, result.output
    assert "validation" in result.output and "train" not in result.output
    path.unlink()
    path.write_bytes(b"<html>")
    result = run("check", path)
    assert result.exit_code == 1 and "a web page" in result.output


def test_a_fault_is_told_once(run: Run, tmp_path: Path) -> None:
    fakes.make_archives(tmp_path, classes=0, validation=9)
    path = tmp_path / "ILSVRC2012_img_val.tar"
    path.write_bytes(path.read_bytes()[:-12_000])
    result = run("check", tmp_path, "--no-checks", "--split", "validation", "--json")
    (report,) = json.loads(result.output)["archives"]
    assert len(report["problems"]) == len(set(report["problems"])) > 0


def test_errors_advise_in_the_words_of_the_command(run: Run, tmp_path: Path) -> None:
    result = run("show", tmp_path)
    assert result.exit_code == 1 and "which is empty" in result.output
    assert "load_dataset" not in result.output and "data_files" not in result.output


def test_export_leaves_the_users_files(run: Run, archives: Archives, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    options = ("--no-checks", "--num-proc", 1, "--output", tmp_path)
    result = run("prepare", archives.folder, *options)
    assert result.exit_code == 1 and "not written by this command" in result.output
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["README.md"]


def test_export_sees_that_the_disk_is_too_small(
    run: Run, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = imagenet2012.load(
        archives.folder, "in_place", split="test", verification_mode="no_checks"
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    (path,) = map(str, archives.folder.glob("*_test_*"))
    plan = export.make_plan(dataset, "test", path, tmp_path)
    with pytest.raises(OSError, match=r"needs about .* are free in .*Pass another --output"):
        export.export([(dataset, plan)], tmp_path, 1, print)
    assert not list(tmp_path.glob("*.parquet"))


def test_the_card_is_one_of_the_hub(run: Run, archives: Archives, tmp_path: Path) -> None:
    exported(run, archives, tmp_path / "out")
    data = DatasetCard.load(tmp_path / "out" / "README.md").data.to_dict()
    assert data["size_categories"] == "n<1K"
    splits = {split["name"]: split["num_examples"] for split in data["dataset_info"]["splits"]}
    assert splits == {"train": 60, "validation": 90, "test": 7}
    assert [one["split"] for one in data["configs"][0]["data_files"]] == list(splits)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize(
    ("kill", "processes"), [(os.kill, "2"), (getattr(os, "killpg", None), "1")]
)
def test_export_is_interrupted(
    kill: Callable[[int, int], None], processes: str, archives: Archives, tmp_path: Path
) -> None:
    """Killed for real; what is there afterwards is whole, and a second run completes it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    output = tmp_path / "out"
    command = [sys.executable, "-m", "imagenet2012", "prepare", str(archives.folder)]
    command += ["--no-checks", "--num-proc", processes]
    command += ["--output", str(output), "--shard-size", "5kB"]
    process = subprocess.Popen(command, env=env, start_new_session=True)
    while process.poll() is None and len(list(output.glob("data/*.parquet"))) < 3:
        time.sleep(0.01)
    kill(process.pid, signal.SIGKILL)
    process.wait()
    first = {p: p.stat().st_mtime_ns for p in output.glob("data/*.parquet")}
    assert first
    subprocess.run(command, env=env, check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    loaded = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "loaded"))
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(archives.expected[split])
    assert not list(output.glob("data/.*"))


@pytest.mark.parametrize("options", [("--push", "me/a"), ("--size", "64"), ("--shard-size", "1GB")])
def test_options_that_need_an_output(
    run: Run, archives: Archives, options: tuple[str, str]
) -> None:
    result = run("prepare", archives.folder, *options)
    assert result.exit_code == 2 and "--output" in result.output


@pytest.mark.parametrize("size", ["7bananas", "0", "-1MB"])
def test_sizes_that_are_none(run: Run, archives: Archives, size: str) -> None:
    result = run("prepare", archives.folder, "--output", "out", f"--shard-size={size}")
    assert result.exit_code == 2 and "such as 500MB" in result.output


def test_push_fails_before_the_work(run: Run, archives: Archives, tmp_path: Path) -> None:
    """Offline, in a paragraph, before hours of writing."""
    options = ("--no-checks", "--output", tmp_path / "out", "--push", "me/imagenet")
    result = run("prepare", archives.folder, *options)
    assert result.exit_code == 1
    assert "You answer for who may see these images" in result.output
    assert "The repository me/imagenet cannot be had: " in result.output
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------- as a command


@pytest.mark.parametrize("arguments", [[], ["check"], ["show"], ["prepare"]])
def test_help_fits_a_terminal(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=80)
    assert "Examples:\n" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_help_is_there_at_once() -> None:
    """To import `datasets` takes a second or more."""
    assert tuple(SOURCES) == SPLITS  # which it names
    code = (
        "import sys, imagenet2012_command\n"
        "imagenet2012_command.main(['prepare', '--help'], standalone_mode=False)\n"
        "print('datasets' in sys.modules, 'imagenet2012' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "--in-place" in done.stdout
    assert done.stdout.endswith("False False\n"), done


def test_as_a_module(archives: Archives, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "imagenet2012", "check", str(archives.folder)]
    done = subprocess.run([*command, "--no-checks"], env=env, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == "", "it is quiet where nobody looks"
