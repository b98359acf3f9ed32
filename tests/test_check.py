"""`imagenet2012 check`: all that is wrong with archives, extracted images and written shards."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import fsspec
import pytest
from click.testing import CliRunner, Result
from conftest import Archives

from imagenet2012.cli import main

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMAGENET2012_DIR", raising=False)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def check(folder: Path, *options: object) -> dict[str, dict[str, Any]]:
    """Return what is told of each split as JSON, without the official figures."""
    result = run("check", folder, "--no-checks", "--json", *options)
    told = json.loads(result.output)
    has_problems = any(report["problems"] for report in told["splits"])
    assert told["ok"] == (result.exit_code == 0) == (not has_problems and not told["missing"])
    return {report["split"]: report for report in told["splits"]}


# ------------------------------------------------------------------------- archives


def test_sound_archives(archives: Archives) -> None:
    result = run("check", archives.folder, "--no-checks", "--decode")
    assert result.exit_code == 0, result.output
    assert "All OK." in result.output and "!" not in result.output
    found = check(archives.folder, "--hash")
    assert {s: one["figures"]["images"]["found"] for s, one in found.items()} == {
        "train": 60,
        "validation": 90,
        "test": 7,
    }
    assert found["train"]["figures"]["classes"]["found"] == 12
    assert len(found["validation"]["sha256"]) == 64


def test_one_archive_by_itself(archives: Archives, tmp_path: Path) -> None:
    """Under any name, or behind a URL; that others are missing is no fault then."""
    path = tmp_path / "val.bin"
    path.symlink_to(archives.folder / VAL)
    assert list(check(path)) == ["validation"]
    fsspec.filesystem("memory").pipe(f"/one/{VAL}", path.read_bytes())
    assert run("check", f"memory://one/{VAL}", "--no-checks").exit_code == 0
    path.unlink()
    path.write_bytes(b"<html>")
    result = run("check", path)
    assert result.exit_code == 1 and "a web page" in result.output


def test_the_official_figures(archives: Archives) -> None:
    result = run("check", archives.folder, "--hash", "--verbose")
    assert result.exit_code == 1
    for words in (
        "bytes instead of 147,897,477,120",
        "12 classes instead of 1,000",
        "60 images instead of 1,281,167",
        "classes that do not have 732 to 1,300 images: 1,000",
        "n15075141 has 0",
        "numbers of images that are missing: 49,910",
        "its SHA-256 is not that of the original, c7e06a6c",
    ):
        assert words in result.output, words


def test_json_and_verbose_list_all(archives: Archives) -> None:
    """Otherwise the first few are shown."""
    told = json.loads(run("check", archives.folder, "--json").output)
    (train, validation, _) = told["splits"]
    assert len(validation["problems"]["numbers of images that are missing"]) == 49_910
    kind = "classes that do not have 732 to 1,300 images"
    assert train["problems"][kind][-1] == "n15075141 has 0"
    assert "n15075141" not in run("check", archives.folder).output


def test_what_is_missing(tmp_path: Path) -> None:
    fakes.make_archives(tmp_path, classes=0, validation=5)
    result = run("check", tmp_path, "--no-checks")
    assert result.exit_code == 1 and "train  missing" in result.output
    assert run("check", tmp_path, "--no-checks", "--split", "validation").exit_code == 0
    result = run("check", tmp_path / "nowhere")
    assert result.exit_code == 1 and "does not exist" in result.output


def test_an_archive_that_was_cut_off(tmp_path: Path) -> None:
    """What came before is counted, and each fault is told once."""
    fakes.make_archives(tmp_path, classes=5, per_class=3, validation=9)
    data = (tmp_path / TRAIN).read_bytes()
    (tmp_path / TRAIN).write_bytes(data[: data.index(fakes.wnids()[3].encode()) + 2048])
    (tmp_path / VAL).write_bytes((tmp_path / VAL).read_bytes()[:-12_000])
    found = check(tmp_path)
    figures = found["train"]["figures"]
    assert (figures["classes"]["found"], figures["images"]["found"]) == (3, 9)
    assert "What follows was not looked at." in "".join(found["train"]["problems"])
    assert found["validation"]["problems"] and found["validation"]["figures"]["images"]["found"] > 0


def test_names_that_do_not_belong(tmp_path: Path) -> None:
    first, second = fakes.wnids()[:2]
    images = {first: [(f"{first}_1.JPEG", b"1"), (f"{second}_2.JPEG", b"2")]}
    (tmp_path / TRAIN).write_bytes(fakes.train_tar(images))
    (tmp_path / VAL).write_bytes(fakes.tar([("ILSVRC2012_val_00050001.JPEG", b"1")]))
    found = check(tmp_path)
    assert f"'{second}_2.JPEG' does not belong in {first}" in "".join(found["train"]["problems"])
    problems = "".join(found["validation"]["problems"])
    assert "00050001.JPEG' does not belong in validation" in problems


def test_every_fault_is_found(tmp_path: Path) -> None:
    """Not only the first: two class tars are damaged, and a validation image appears twice."""
    fakes.make_archives(tmp_path, classes=5, per_class=3, validation=0)
    data = bytearray((tmp_path / TRAIN).read_bytes())
    for wnid in (fakes.wnids()[1], fakes.wnids()[3]):
        data[data.index(f"{wnid}_".encode()) + 130] ^= 1
    (tmp_path / TRAIN).write_bytes(data)
    members = fakes.flat_images("val", 400)
    (tmp_path / VAL).write_bytes(fakes.tar([*members, members[0]]))
    found = check(tmp_path)
    assert len(found["train"]["problems"]) == 2
    assert found["train"]["figures"]["images"]["found"] == 9
    twice = {"numbers of images that appear twice": [members[0][0][15:23]]}
    assert found["validation"]["problems"] == twice


def broken_archives(folder: Path) -> list[str]:
    """Write archives in which two of the training and most validation images are broken."""
    wnid = fakes.wnids()[0]
    names = [f"{wnid}_{number}.JPEG" for number in range(4)]
    images = [fakes.jpeg(1), fakes.jpeg(2)[:600], b"", fakes.jpeg(3)]
    (folder / TRAIN).write_bytes(fakes.train_tar({wnid: list(zip(names, images, strict=True))}))
    members = fakes.flat_images("val", 700)
    broken = [(name, data[:700]) for name, data in members[3:]]
    (folder / VAL).write_bytes(fakes.tar([*members[:3], *broken]))
    return names[1:3] + [name for name, _ in broken]


def test_every_image_is_decoded(tmp_path: Path) -> None:
    """All that are broken are listed with the reason, and nothing but them."""
    broken = broken_archives(tmp_path)
    assert all(not report["problems"] for report in check(tmp_path).values())
    found = check(tmp_path, "--decode")
    kind = "images that cannot be decoded"
    listed = [place for report in found.values() for place in report["problems"][kind]]
    assert sorted(place.partition(":")[0] for place in listed) == sorted(broken)
    assert any("cannot identify image file" in place for place in listed)


def test_what_can_be_read_is_decoded(tmp_path: Path) -> None:
    """Also before a fault in the archive, which is the same as without decoding."""
    members = fakes.flat_images("val", 4)
    data = bytearray(fakes.tar(members))
    data[data.index(members[2][0].encode()) + 130] ^= 1
    (tmp_path / VAL).write_bytes(data)
    options = ("--split", "validation")
    without, decoded = check(tmp_path, *options), check(tmp_path, *options, "--decode")
    assert without == decoded
    assert decoded["validation"]["figures"]["images"]["found"] > 0


def test_it_goes_on_after_what_cannot_be_opened(archives: Archives, tmp_path: Path) -> None:
    (tmp_path / TRAIN).symlink_to(archives.folder / TRAIN)
    os.mkfifo(tmp_path / VAL)
    for option in ("--hash", "--decode"):
        found = check(tmp_path, option)
        assert found["train"]["problems"] == {}
        assert "not a regular file" in "".join(found["validation"]["problems"])


# ------------------------------------------------------------------------- extracted images


@pytest.fixture
def tree(archives: Archives, tmp_path: Path) -> Path:
    """Class folders of training images, and flat validation images."""
    with tarfile.open(archives.folder / TRAIN) as tar:
        for member in tar:
            data = tar.extractfile(member).read()  # type: ignore[union-attr]
            folder = tmp_path / "tree" / "train" / member.name.removesuffix(".tar")
            with tarfile.open(fileobj=io.BytesIO(data)) as inner:
                inner.extractall(folder, filter="data")
    with tarfile.open(archives.folder / VAL) as tar:
        tar.extractall(tmp_path / "tree" / "val", filter="data")
    return tmp_path / "tree"


def test_a_tree(tree: Path) -> None:
    found = check(tree, "--decode")
    assert found["train"]["figures"]["classes"]["found"] == 12
    assert [one["figures"]["images"]["found"] for one in found.values()] == [60, 90]
    result = run("check", tree)
    assert result.exit_code == 1 and "12 classes instead of 1,000" in result.output
    assert "archive" not in result.output and ".tar" not in result.output
    result = run("check", tree, "--split", "test", "--no-checks")
    assert result.exit_code == 1 and "test  missing" in result.output


@pytest.mark.parametrize("options", [(), ("--decode",)])
def test_what_is_wrong_with_a_tree(options: tuple[str, ...], tree: Path) -> None:
    image = next((tree / "train/n01440764").iterdir())
    shutil.copy(image, tree / "train/n01443537")
    image.write_bytes(b"")
    (tree / "val" / "notes.txt").write_text("mine")
    found = check(tree, *options)
    (empty,) = found["train"]["problems"].pop(
        "images that cannot be decoded" if options else "empty files"
    )
    assert image.name in empty
    foreign = [f"{tree}/train/n01443537/{image.name}"]
    assert found["train"]["problems"] == {"images in a folder of others": foreign}
    assert found["validation"]["problems"] == {
        "names that do not belong": [f"{tree}/val/notes.txt"]
    }


# ------------------------------------------------------------------------- shards


@pytest.fixture
def write(archives: Archives, tmp_path: Path) -> Callable[..., Path]:
    """Return what indexes archives to the folder `out`."""

    def write(folder: Path = archives.folder, *options: object, verb: str = "index") -> Path:
        few = ("--shards", 3) if verb == "index" else ("--shard-size", "40kB")
        common = (verb, folder, tmp_path / "out", "--no-checks", "--num-proc", 1, *few)
        result = run(*common, *options)
        assert result.exit_code == 0, result.output
        return tmp_path / "out"

    return write


Write = Callable[..., Path]


@pytest.mark.parametrize("verb", ["index", "export"])
def test_sound_shards(verb: str, write: Write) -> None:
    output = write(verb=verb)
    assert [not report["problems"] for report in check(output).values()] == [True] * 3
    result = run("check", output, "--split", "train")
    assert result.exit_code == 1 and "60 images instead of 1,281,167" in result.output
    result = run("check", output, "--decode")
    assert result.exit_code == 1 and "for archives" in result.output


def test_what_is_wrong_with_shards(write: Write, archives: Archives) -> None:
    """Of each shard: one is missing, one is another, one is damaged; one more is there."""
    output = write(archives.folder, "--split", "validation", verb="export")
    shards = sorted(output.glob("data/*.parquet"))
    (output / "data/validation-00000-of-00099.parquet").write_bytes(shards[0].read_bytes())
    shards[0].unlink()
    shutil.copy(shards[2], shards[1])
    data = bytearray(shards[2].read_bytes())
    data[data.index(b"\xff\xd8\xff") + 700] ^= 1
    shards[2].write_bytes(data)
    problems = check(output)["validation"]["problems"]
    (damaged,) = problems.pop("shards with damaged pages")
    assert damaged.startswith(shards[2].name) and "CRC" in damaged
    assert problems == {
        "files of another export": ["validation-00000-of-00099.parquet"],
        "missing shards": [shards[0].name],
        "shards of another export, misplaced or damaged": [shards[1].name],
    }


@pytest.mark.parametrize("fault", ["a header", "another order"])
def test_an_index_of_another_archive(
    fault: str, write: Write, archives: Archives, tmp_path: Path
) -> None:
    """An archive of the same size may be another."""
    folder = Path(shutil.copytree(archives.folder, tmp_path / "mine"))
    output = write(folder, "--split", "train")
    data, name = (folder / TRAIN).read_bytes(), "n01440764_10026.JPEG"
    if fault == "a header":
        start = data.index(name.encode() + b"\0")
        (folder / TRAIN).write_bytes(data[:start] + bytes(512) + data[start + 512 :])
    else:
        with tarfile.open(folder / TRAIN) as tar:
            members = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]
        (folder / TRAIN).write_bytes(fakes.tar(members[::-1]))
    assert (folder / TRAIN).stat().st_size == len(data)
    missing = check(output)["train"]["problems"]["images that are not where the index says"]
    assert missing == [name] if fault == "a header" else len(missing) > 30


@pytest.mark.parametrize("fault", ["a file", "a folder"])
def test_an_index_of_a_tree(fault: str, tree: Path, write: Write) -> None:
    output = write(tree)
    assert not any(report["problems"] for report in check(output).values())
    lost = next((tree / "train").iterdir())
    names = sorted(map(str, lost.iterdir()))
    if fault == "a folder":
        shutil.rmtree(lost)
    else:
        Path(names[0]).unlink()
        names = names[:1]
    missing = check(output)["train"]["problems"]["images that are not where the index says"]
    assert sorted(missing) == names


def test_an_index_without_its_archive(write: Write, archives: Archives) -> None:
    output = write(archives.folder, "--split", "validation", "--portable")
    assert "IMAGENET2012_DIR" in "".join(check(output)["validation"]["problems"])
