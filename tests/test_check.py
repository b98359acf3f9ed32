"""`imagenet2012 check`: all that is wrong with archives, extracted images and written shards."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import fsspec
import layouts
import pytest
from conftest import Archives, Run, Write
from layouts import TRAIN, VAL

Check = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def check(run: Run) -> Check:
    """Return what is told of each split as JSON, without the official figures."""

    def check(folder: Path, *options: object) -> dict[str, dict[str, Any]]:
        result = run("check", folder, "--no-checks", "--json", *options)
        told = json.loads(result.output)
        has_problems = any(report["problems"] for report in told["splits"])
        assert told["ok"] == (result.exit_code == 0) == (not has_problems and not told["missing"])
        return {report["split"]: report for report in told["splits"]}

    return check


def images(report: dict[str, Any]) -> int:
    return report["figures"]["images"]["found"]


# ------------------------------------------------------------------------- archives


@pytest.mark.parametrize("layout", [layouts.copied, layouts.flat])
def test_what_is_sound(
    layout: layouts.Layout, run: Run, check: Check, archives: Archives, tmp_path: Path
) -> None:
    folder = layout(archives.folder, tmp_path / "in")
    result = run("check", folder, "--no-checks", "--decode")
    assert result.exit_code == 0 and "All OK." in result.output and "!" not in result.output
    found = check(folder)
    assert {s: images(one) for s, one in found.items()} == {
        "train": 60,
        "validation": 90,
        "test": 7,
    }
    assert found["train"]["figures"]["classes"]["found"] == 12
    result = run("check", folder)
    assert result.exit_code == 1 and "12 classes instead of 1,000" in result.output


def test_one_archive_by_itself(run: Run, check: Check, archives: Archives, tmp_path: Path) -> None:
    """Under any name, or behind a URL; that others are missing is no fault then."""
    path = tmp_path / "val.bin"
    path.symlink_to(archives.folder / VAL)
    assert len(check(path, "--hash")["validation"]["sha256"]) == 64
    fsspec.filesystem("memory").pipe(f"/one/{VAL}", path.read_bytes())
    assert run("check", f"memory://one/{VAL}", "--no-checks").exit_code == 0
    path.unlink()
    path.write_bytes(b"<html>")
    result = run("check", path)
    assert result.exit_code == 1 and "a web page" in result.output


def test_the_official_figures(run: Run, archives: Archives) -> None:
    """All that differs is listed with --verbose and in JSON, else the first few places of each."""
    result = run("check", archives.folder, "--hash", "--verbose")
    assert result.exit_code == 1
    for words in (
        "bytes instead of 147,897,477,120",
        "60 images instead of 1,281,167",
        "classes that do not have 732 to 1,300 images: ",
        "missing classes: ",
        "n15075141",
        "numbers of images that are missing: 49,910",
        "its SHA-256 is not that of the original, c7e06a6c",
    ):
        assert words in result.output, words
    (_, validation, _) = json.loads(run("check", archives.folder, "--json").output)["splits"]
    assert len(validation["problems"]["numbers of images that are missing"]) == 49_910
    assert "n15075141" not in run("check", archives.folder).output


def test_what_is_missing(run: Run, tmp_path: Path) -> None:
    fakes.make_archives(tmp_path, classes=0, validation=5)
    result = run("check", tmp_path, "--no-checks")
    assert result.exit_code == 1 and "train  missing" in result.output
    assert run("check", tmp_path, "--no-checks", "--split", "validation").exit_code == 0


def test_an_archive_that_was_cut_off(check: Check, tmp_path: Path) -> None:
    """What came before is counted, and each fault is told once."""
    fakes.make_archives(tmp_path, classes=5, per_class=3, validation=9)
    data = (tmp_path / TRAIN).read_bytes()
    (tmp_path / TRAIN).write_bytes(data[: data.index(fakes.wnids()[3].encode()) + 2048])
    (tmp_path / VAL).write_bytes((tmp_path / VAL).read_bytes()[:-12_000])
    train, validation = check(tmp_path).values()
    assert (train["figures"]["classes"]["found"], images(train)) == (3, 9)
    assert "What follows was not looked at." in "".join(train["problems"])
    assert validation["problems"] and images(validation) > 0


def test_every_fault_is_found(check: Check, tmp_path: Path) -> None:
    """Not only the first: a damaged class tar, a foreign name, a validation image twice."""
    images_of = dict(fakes.train_images(5, 3))
    first, second, _, fourth, _ = images_of
    images_of[fourth].append((f"{first}_1.JPEG", fakes.jpeg(1)))
    data = bytearray(fakes.train_tar(images_of))
    data[data.index(f"{second}_".encode()) + 130] ^= 1
    (tmp_path / TRAIN).write_bytes(data)
    members = fakes.flat_images("val", 400)
    (tmp_path / VAL).write_bytes(fakes.tar([*members, members[0]]))
    found = check(tmp_path)
    assert found == check(tmp_path, "--decode"), "what can be read is decoded before a fault"
    train, validation = found.values()
    assert len(train["problems"]) == 2 and images(train) == 12
    assert f"'{first}_1.JPEG' does not belong in {fourth}" in "".join(train["problems"])
    twice = {"numbers of images that appear twice": [members[0][0][15:23]]}
    assert validation["problems"] == twice


def test_every_image_is_decoded(check: Check, tmp_path: Path) -> None:
    """All that are broken are listed with the reason, and nothing but them."""
    wnid = fakes.wnids()[0]
    names = [f"{wnid}_{number}.JPEG" for number in range(4)]
    data = [fakes.jpeg(1), fakes.jpeg(2)[:600], b"", fakes.jpeg(3)]
    (tmp_path / TRAIN).write_bytes(fakes.train_tar({wnid: list(zip(names, data, strict=True))}))
    members = fakes.flat_images("val", 700)
    broken = [(name, data[:700]) for name, data in members[3:]]
    (tmp_path / VAL).write_bytes(fakes.tar([*members[:3], *broken]))
    assert all(not report["problems"] for report in check(tmp_path).values())
    found = check(tmp_path, "--decode")
    kind = "images that cannot be decoded"
    listed = [place for report in found.values() for place in report["problems"][kind]]
    expected = sorted(names[1:3] + [name for name, _ in broken])
    assert sorted(place.partition(":")[0] for place in listed) == expected
    assert any("cannot identify image file" in place for place in listed)


def test_it_goes_on_after_what_cannot_be_opened(
    check: Check, archives: Archives, tmp_path: Path
) -> None:
    (tmp_path / TRAIN).symlink_to(archives.folder / TRAIN)
    os.mkfifo(tmp_path / VAL)
    for option in ("--hash", "--decode"):
        found = check(tmp_path, option)
        assert found["train"]["problems"] == {}
        assert "not a regular file" in "".join(found["validation"]["problems"])


@pytest.mark.parametrize("options", [(), ("--decode",)])
def test_what_is_wrong_with_a_tree(
    options: tuple[str, ...], check: Check, archives: Archives, tmp_path: Path
) -> None:
    tree = layouts.flat(archives.folder, tmp_path / "tree")
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
    assert found["train"]["problems"] == {"names that do not belong": foreign}
    assert found["validation"]["problems"] == {
        "names that do not belong": [f"{tree}/val/notes.txt"]
    }


# ------------------------------------------------------------------------- shards


@pytest.mark.parametrize("verb", ["index", "export"])
def test_sound_shards(verb: str, write: Write, check: Check, run: Run) -> None:
    output = write(verb)
    assert [not report["problems"] for report in check(output).values()] == [True] * 3
    result = run("check", output, "--split", "train")
    assert result.exit_code == 1 and "60 images instead of 1,281,167" in result.output
    result = run("check", output, "--decode")
    assert result.exit_code == 1 and "for archives" in result.output


def test_what_is_wrong_with_shards(write: Write, check: Check) -> None:
    """Of each shard: one is missing, one is another, one is damaged; one more is there."""
    output = write("export", "--split", "validation")
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
    fault: str, write: Write, check: Check, archives: Archives, tmp_path: Path
) -> None:
    """An archive of the same size may be another."""
    folder = Path(shutil.copytree(archives.folder, tmp_path / "mine"))
    output = write("index", "--split", "train", folder=folder)
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


def test_an_index_of_a_tree(write: Write, check: Check, archives: Archives, tmp_path: Path) -> None:
    tree = layouts.flat(archives.folder, tmp_path / "tree")
    output = write("index", folder=tree)
    assert not any(report["problems"] for report in check(output).values())
    lost = next((tree / "train").iterdir())
    names = sorted(map(str, lost.iterdir()))
    shutil.rmtree(lost)
    missing = check(output)["train"]["problems"]["images that are not where the index says"]
    assert sorted(missing) == names


def test_an_index_without_its_archive(write: Write, check: Check) -> None:
    output = write("index", "--split", "validation", "--portable")
    assert "IMAGENET2012_DIR" in "".join(check(output)["validation"]["problems"])
