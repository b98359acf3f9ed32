"""The reader of archives against `tarfile`: the same images come out, or a clear error does."""

import io
import itertools
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import hostile
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import imagenet2012
from imagenet2012 import ArchiveError
from rows import undecoded

REGIONS = (1, 2, 3, 7, 64, 128, 1000)
GNU_TAR = shutil.which("tar")


def check_right(path: Path, data: bytes, files: hostile.Files | None = None) -> None:
    """The archive is read as `tarfile` reads it, in any number of regions."""
    assert hostile.judge(data) is not None
    assert files is None or hostile.judge(data) == files
    for regions in REGIONS:
        assert hostile.verdict(path, data, regions) == "right", regions


def check_refused(path: Path, data: bytes, message: str) -> None:
    """The archive is refused in any number of regions."""
    for regions in REGIONS:
        path.write_bytes(data)
        with pytest.raises(ArchiveError, match=message) as caught:
            hostile.read(path, regions)
        assert str(path) in str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ILSVRC2012_img_val.tar"


def python_tar(files: hostile.Files, folder: str, tar_format: int, mtime: float) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        if folder:
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for name, data in files:
            info = tarfile.TarInfo(folder + name)
            info.size = len(data)
            info.mtime = mtime
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# ------------------------------------------------------------------------- sound archives

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.mark.skipif(not GNU_TAR, reason="needs GNU tar")
@pytest.mark.parametrize("folder", [".", "f" * 90, "f" * 120])
@pytest.mark.parametrize("tar_format", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_what_gnu_tar_writes(tar_format: str, folder: str, path: Path, tmp_path: Path) -> None:
    if len(folder) > {"v7": 60, "ustar": 100}.get(tar_format, 1000):
        pytest.skip(f"{tar_format} has no room for such a name")
    files = hostile.archive(40)
    target = tmp_path / "files" / folder
    target.mkdir(parents=True)
    for name, data in files:
        (target / name).write_bytes(data)
    files_in = ["-C", str(tmp_path / "files"), "-cf", str(path), "."]
    subprocess.run(["tar", f"--format={tar_format}", *files_in], check=True)
    check_right(path, path.read_bytes())
    assert sorted(hostile.judge(path.read_bytes()) or []) == sorted(files)


def test_folders_and_clutter_are_passed_over(path: Path) -> None:
    files = hostile.archive(30)
    members: hostile.Files = []
    for name, data in files:
        members += [(f"val/._{name}", b"Mac"), (f"val/{name}", data), ("val/.DS_Store", b"x" * 700)]
    data = fakes.header("val/", 0, b"5") + fakes.tar(members)
    check_right(path, data, files)


def member(header: bytes, content: bytes) -> bytes:
    return header + content + bytes(-len(content) % 512)


def base_256(name: str, content: bytes) -> bytes:
    header, size = fakes.header(name, 0), b"\x80" + len(content).to_bytes(11, "big")
    return member(hostile.checksummed(header[:124] + size + header[136:]), content)


def signed(name: str, content: bytes) -> bytes:
    """Some old tars summed their headers as signed bytes."""
    header = fakes.header(f"ä/{name}", len(content))
    blank = header[:148] + b" " * 8 + header[156:]
    total = sum(byte - 256 * (byte > 127) for byte in blank)
    return member(header[:148] + b"%06o\0 " % total + header[156:], content)


def below(folder: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, data: member(fakes.header(folder + name.encode(), len(data)), data)


@pytest.mark.parametrize(
    "write", [base_256, signed, *map(below, (b"\xff\xfe/", b"a b\n/", b"x" * 60 + b"/"))]
)
def test_odd_headers_are_read(write: Callable[[str, bytes], bytes], path: Path) -> None:
    files = hostile.archive(20)
    check_right(path, b"".join(write(*one) for one in files) + bytes(1024), files)


# ------------------------------------------------------------------------- damaged archives


@pytest.mark.skipif(not GNU_TAR, reason="needs GNU tar")
@pytest.mark.parametrize("tar_format", ["gnu", "pax"])
def test_sparse_members_are_refused(tar_format: str, path: Path, tmp_path: Path) -> None:
    with (tmp_path / hostile.name(1)).open("wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"data")
    command = ["tar", "--sparse", f"--format={tar_format}", "-C", str(tmp_path), "-cf", str(path)]
    subprocess.run([*command, hostile.name(1)], check=True)
    with pytest.raises(ArchiveError, match=r"sparse|special file|belong"):
        hostile.read(path, 1)


def test_a_cut_at_every_block_and_around(path: Path) -> None:
    """Nothing that lacks an image or its end marker passes."""
    data = fakes.tar(hostile.archive(12), blocking=512)
    for end in range(0, len(data) - 511, 512):
        for cut in {end, max(0, end - 1), end + 1, end + 300} - {len(data)}:
            path.write_bytes(data[:cut])
            for regions in (1, 3):
                with pytest.raises(ArchiveError):
                    hostile.read(path, regions)


def with_block(data: bytes, block: bytes, over: int) -> bytes:
    """Return an archive with a block before its fifth header, or over it."""
    at = hostile.headers(data)[4]
    return data[:at] + block + data[at + over :]


SOUND = fakes.tar(hostile.archive(9))
RECORD = b"30 path=ILSVRC2012_val_9.JPEG\n"
DAMAGED = {
    # `tarfile` would silently give the first.
    "two archives": (SOUND + fakes.tar(hostile.archive(5, seed=2)), "more data follow"),
    "garbage": (
        with_block(SOUND, random.Random(1).randbytes(512), 0),
        "a member's header belongs here",
    ),
    "global records": (
        fakes.header("global", len(RECORD), b"g") + RECORD.ljust(512, b"\0") + SOUND,
        "not supported",
    ),
}
for name in ("n01440764_1.JPEG", "ILSVRC2012_val_1.JPEG", "notes.txt", "a.jpg"):
    files = [*hostile.archive(5), (name, b"x"), *hostile.archive(5, seed=2)]
    DAMAGED[name] = (fakes.tar(files), f"'{name}' does not belong here")
for kind, name in itertools.product("12346VMD", (hostile.name(9), "._link")):
    special = fakes.header(name, 0, kind.encode())
    DAMAGED[f"type {kind} of {name}"] = (with_block(SOUND, special, 0), "is a link or a special")
for value in (b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0", b"garbage!!!!\0"):
    place = hostile.headers(SOUND)[4]
    forged = SOUND[place : place + 124] + value + SOUND[place + 136 : place + 512]
    DAMAGED[f"size {value!r}"] = (
        with_block(SOUND, hostile.checksummed(forged), 512),
        r"claims -?[\d,]+ bytes|header belongs",
    )


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_archives_are_refused(kind: str, path: Path) -> None:
    check_refused(path, *DAMAGED[kind])


def test_endless_extension_headers_are_refused(path: Path) -> None:
    """Neither recursion nor memory runs away."""
    chain = (fakes.header("x", 512, b"x") + b"9 a=bcd\n".ljust(512, b"\0")) * 5000
    for regions in REGIONS:
        outcome = hostile.verdict(path, chain + fakes.tar(hostile.archive(2)), regions)
        assert outcome in ("right", "refused"), regions
    huge = fakes.header("x", 1 << 40, b"L") + fakes.tar(hostile.archive(2))
    check_refused(path, huge, r"cannot be read|claims")


# ------------------------------------------------------------------------- misleading images


def test_hidden_tars_mislead_nobody(path: Path) -> None:
    """Every image holds tars with convincing names, wherever a region may begin."""
    data = fakes.tar((hostile.name(k), hostile.hidden_tar(1000 + 10 * k)) for k in range(1, 30))
    for regions in REGIONS:
        outcome = hostile.verdict(path, data, regions)
        assert outcome in (("right",) if regions == 1 else ("right", "refused"))


def test_a_header_hidden_in_one_image(path: Path) -> None:
    """With a header at every block of one image, some region begins at one of them."""
    header = fakes.header(hostile.name(49_000), 0)
    files = hostile.archive(20)
    files.insert(10, (hostile.name(48_000), header * 40))
    for regions in range(1, 60):
        assert hostile.verdict(path, fakes.tar(files), regions) in ("right", "refused")
    assert hostile.verdict(path, fakes.tar(files), 1) == "right"
    with pytest.raises(ArchiveError, match="an image's bytes look like a tar"):
        for regions in range(2, 60):
            hostile.read(path, regions)


# ------------------------------------------------------------------------- the training archive

Images = dict[str, list[tuple[str, bytes]]]
WAYS = pytest.mark.parametrize("way", ["copy", "archive", "mixed"])


def load_train(folder: Path, data: bytes, way: str = "copy") -> list[str]:
    """Load a training archive as a copy, or as a stream in an order; return the file names."""
    (folder / "ILSVRC2012_img_train.tar").write_bytes(data)
    stream = {"streaming": True, "order": way}
    options = {"cache_dir": str(folder)} if way == "copy" else stream
    loaded = imagenet2012.load(folder, split="train", verification_mode="no_checks", **options)
    return [row["file_name"] for row in undecoded(loaded)]


ONE, TWO = "n01440764", "n01443537"
FOREIGN: dict[str, hostile.Files] = {
    rf"{ONE}_2\.JPEG' does not belong in {TWO}": [
        (f"{ONE}.tar", fakes.tar([(f"{ONE}_1.JPEG", b"x")])),
        (f"{TWO}.tar", fakes.tar([(f"{ONE}_2.JPEG", b"x")])),
    ],
    r"'n99999999\.tar' is not one of the 1000 classes": [("n99999999.tar", fakes.tar([]))],
    rf"'{ONE}\.tar' is not one .*, or appears twice": [(f"{ONE}.tar", fakes.tar([]))] * 2,
    rf"'{ONE}_1\.JPEG' appears twice": [(f"{ONE}.tar", fakes.tar([(f"{ONE}_1.JPEG", b"x")] * 2))],
    "cut off": [(f"{ONE}.tar", b""), (f"{TWO}.tar", fakes.tar([]))],
}


@WAYS
@pytest.mark.parametrize("message", FOREIGN)
def test_what_does_not_belong_is_refused(message: str, way: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=message):
        load_train(tmp_path, fakes.tar(FOREIGN[message]), way)


@pytest.mark.parametrize("num_proc", [None, 2])
@pytest.mark.parametrize("config", ["default", "in_place"])
def test_an_image_that_stands_in_two_regions_is_refused(
    config: str, num_proc: int | None, tmp_path: Path
) -> None:
    """The first image again at the end, which another process may read."""
    members = list(fakes.flat_images("val", 60))
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(fakes.tar([*members, members[0]]))
    options = {"split": "validation", "verification_mode": "no_checks", "num_proc": num_proc}
    for _ in range(2):  # what was refused is no copy that the next run would find
        with pytest.raises(ArchiveError, match=rf"'{members[0][0]}' appears twice"):
            imagenet2012.load(tmp_path, config, cache_dir=str(tmp_path / "cache"), **options)


@WAYS
def test_empty_classes_are_no_fault(way: str, tmp_path: Path) -> None:
    images: Images = {wnid: [] for wnid in fakes.wnids()[:4]}
    name = f"{fakes.wnids()[2]}_1.JPEG"
    images[fakes.wnids()[2]] = [(name, b"x")]
    assert load_train(tmp_path, fakes.train_tar(images), way) == [name]


def test_folders_and_clutter_in_the_training_archive(tmp_path: Path) -> None:
    inner = fakes.header("n01440764/", 0, b"5") + fakes.tar(
        [("n01440764/._n01440764_1.JPEG", b"Mac"), ("n01440764/n01440764_1.JPEG", b"x")]
    )
    outer = fakes.header("./", 0, b"5") + fakes.tar(
        [("./._n01440764.tar", b"Mac"), ("./n01440764.tar", inner)]
    )
    assert load_train(tmp_path, outer) == ["n01440764_1.JPEG"]


def test_numbers_that_do_not_exist_are_refused(tmp_path: Path, cache: dict[str, Any]) -> None:
    for number in (0, 50_001):
        data = fakes.tar([(hostile.name(1), b"x"), (hostile.name(number), b"x")])
        (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(data)
        with pytest.raises(Exception, match=f"{number:08d}.JPEG' does not belong in validation"):
            imagenet2012.load(tmp_path, split="validation", **cache)


# ------------------------------------------------------------------------- at random

MEMBERS = st.lists(st.integers(0, 2500), min_size=0, max_size=25)
EDGES = [0, 0, 1, 511, 512, 513, 1024, 0]
FOLDERS = st.sampled_from(["", "./val/", "../val/", "/val/", "f/" * 70, "böse/图/"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(MEMBERS, FOLDERS, st.sampled_from(list(FORMATS)), st.integers(1, 200), st.floats(0, 2**31))
@example(EDGES, "", "ustar", 7, 0)
def test_any_archive_in_any_number_of_regions(
    path: Path, sizes: list[int], folder: str, tar_format: str, regions: int, mtime: float
) -> None:
    files = [(hostile.name(k + 1), bytes([k % 251]) * size) for k, size in enumerate(sizes)]
    data = python_tar(files, folder, FORMATS[tar_format], mtime)
    path.write_bytes(data)
    assert hostile.read(path, regions) == files == hostile.judge(data)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**32), st.integers(1, 40))
@example(8_388_608, 1)  # found by `make fuzz`: `tarfile` stops at a garbled date
def test_any_damage(path: Path, seed: int, regions: int) -> None:
    rnd = random.Random(seed)
    kind, data = hostile.mutate(fakes.tar(hostile.archive(8, seed, 1500), blocking=512), rnd)
    assert hostile.verdict(path, data, regions) in ("right", "refused"), (kind, seed)
