"""Loading runs nothing, writes only its cache, needs no network, and reads no other files."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import datasets
import fakes
import fsspec
import pytest
from conftest import ROOT, Archives

import imagenet2012
from imagenet2012 import ArchiveError


def snapshot(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


GUARDED = """
import sys

def watch(event, args):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.bind", "os.system", "os.exec",
                 "os.posix_spawn", "subprocess.Popen", "pickle.find_class"} and watching:
        raise SystemExit(f"forbidden: {event} {args}")
    if event == "open" and watching and isinstance(args[0], str) and args[2] & 3:  # for writing
        if not args[0].startswith((sys.argv[2], "/dev/")):
            raise SystemExit(f"wrote elsewhere: {args[0]}")

watching = False
sys.addaudithook(watch)
import datasets, imagenet2012
import PIL.JpegImagePlugin
datasets.disable_progress_bars()
watching = True
options = {"cache_dir": sys.argv[2] + "/cache", "verification_mode": "no_checks"}
for config in ("default", "in_place"):
    loaded = imagenet2012.load(sys.argv[1], config, **options)
    assert loaded["train"][0]["image"].mode == "RGB"
    rows = list(imagenet2012.load(sys.argv[1], config, split="test", streaming=True))
print(loaded["train"].num_rows, len(rows))
"""


def test_what_loading_does(archives: Archives, tmp_path: Path) -> None:
    """Python's own audit events: no network, no process, no pickle, no file beside the cache."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    env |= {"HF_HUB_OFFLINE": "0"}  # it is not the setting that keeps it from the network
    command = [sys.executable, "-c", GUARDED, str(archives.folder), str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "60 7\n", done.stderr


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0
    if sys.platform == "linux"
    else True,
    reason="needs a network namespace",
)
def test_without_any_network(archives: Archives, tmp_path: Path) -> None:
    code = (
        "import sys, datasets, imagenet2012\n"
        "d = datasets.load_dataset('imagenet2012', 'in_place', data_dir=sys.argv[1], num_proc=2,\n"
        "    verification_mode='no_checks')\n"
        "print(d['train'].num_rows)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    command = ["unshare", "-rn", sys.executable, "-c", code, str(archives.folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stdout == "60\n", done.stderr


def test_names_outside(tmp_path: Path) -> None:
    """Members are never extracted, so `..` and absolute names are only folders to pass over."""
    folder = tmp_path / "deep" / "archives"
    folder.mkdir(parents=True)
    files = [
        (f"{prefix}ILSVRC2012_val_{k:08d}.JPEG", b"x")
        for k, prefix in enumerate(["../../", str(tmp_path) + "/", "~/", "./"], 1)
    ]
    (folder / "ILSVRC2012_img_val.tar").write_bytes(fakes.tar(files))
    before = snapshot(tmp_path)
    options = {"cache_dir": str(tmp_path / "cache"), "verification_mode": "no_checks"}
    loaded = imagenet2012.load(folder, split="validation", **options)
    assert loaded["file_name"][:] == [f"ILSVRC2012_val_{k:08d}.JPEG" for k in range(1, 5)]
    assert {
        p for p in snapshot(tmp_path) - before if not p.startswith(str(tmp_path / "cache"))
    } == set()


def test_a_pickle_in_an_archive_is_only_bytes(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    data = fakes.train_tar({"n01440764": [("n01440764_1.JPEG", pickle.dumps(Bomb()))]})
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(data)
    options = {"cache_dir": str(tmp_path / "cache"), "verification_mode": "no_checks"}
    loaded = imagenet2012.load(tmp_path, split="train", **options)
    with pytest.raises(OSError, match=r"n01440764_1\.JPEG"):
        loaded[0]
    assert not (tmp_path / "exploded").exists()


# ------------------------------------------------------------------------- addresses of others


def read(path: str, offset: int, size: int, name: str = "n01440764_1.JPEG") -> bytes:
    """Read by an address as a dataset that somebody else made may hold it."""
    address = f"imagenet2012://{path.replace('/', '%2F')}/{offset}-{size}/{name}"
    return fsspec.filesystem("imagenet2012").cat_file(address)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/dev/zero", "/dev/random", "/proc/self/environ", "/"]
)
def test_other_files_are_not_read(path: str) -> None:
    for offset, size in ((0, 10), (0, 0), (512, 100), (0, 1 << 40)):
        with pytest.raises(ArchiveError):
            read(path, offset, size)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArchiveError, match="not a regular file"):
        read(str(tmp_path / "pipe"), 0, 10)
    (tmp_path / "ILSVRC2012_img_val.tar").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "ILSVRC2012_img_val.tar")
    with pytest.raises(ArchiveError, match="not a regular file"):
        imagenet2012.load(tmp_path)


def test_a_pipe_keeps_its_data(tmp_path: Path) -> None:
    """Opening alone would let its writer go on, and closing lose what it wrote."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    writer = subprocess.Popen(["sh", "-c", f"echo whole > {pipe}"])
    try:
        for path in (pipe, link):
            with pytest.raises(ArchiveError, match="not a regular file"):
                read(str(path), 0, 10)
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.5)
        assert pipe.read_text() == "whole\n"
    finally:
        writer.kill()
        writer.wait()


TERMINAL = """
import os, sys, fsspec
from imagenet2012 import ArchiveError
os.setsid()
for path in sys.argv[1:]:
    url = f"imagenet2012://{path.replace('/', '%2F')}/0-10/n01440764_1.JPEG"
    try:
        fsspec.open(url).open()
    except ArchiveError as error:
        assert "not a regular file" in str(error), error
try:
    os.open("/dev/tty", os.O_RDWR)
    print("acquired")
except OSError:
    print("none")
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs terminals")
def test_a_terminal_does_not_become_the_controlling_one(tmp_path: Path) -> None:
    main, terminal = os.openpty()
    (tmp_path / "link").symlink_to(os.ttyname(terminal))
    paths = [os.ttyname(terminal), str(tmp_path / "link"), "/dev/null", "/dev/full"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TERMINAL, *paths]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    os.close(main)
    os.close(terminal)
    assert done.stdout == "none\n", done.stderr


def test_a_forged_size_has_little_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is looked at first where the data would be larger than images are."""
    path = tmp_path / "any.bin"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    counted: list[int] = []
    read_once = imagenet2012.storage.Archive._read_once

    def counting(archive: imagenet2012.storage.Archive, offset: int, size: int) -> bytes:
        counted.append(size)
        return read_once(archive, offset, size)

    monkeypatch.setattr(imagenet2012.storage.Archive, "_read_once", counting)
    for size in (imagenet2012.in_place.LARGE_IMAGE + 1, 1 << 29, 1 << 40):
        with pytest.raises(ArchiveError):
            read(str(path), 512, size)
    assert sum(counted) < 2048


def test_members_of_other_tars_are_not_read(tmp_path: Path) -> None:
    """Only what a tar header presents under the name of an image of ILSVRC2012."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("secrets.txt", "n01440764_1.JPEG", "link"):
            info = tarfile.TarInfo(name)
            info.size = 6
            if name == "link":
                info.type, info.size, info.linkname = tarfile.SYMTYPE, 0, "/etc/passwd"
            tar.addfile(info, io.BytesIO(b"secret"))
    path = tmp_path / "backup.tar"
    path.write_bytes(buffer.getvalue())
    assert read(str(path), 1024, 6) == b"secret"  # this one calls itself an image
    for offset, size, name in (
        (0, 6, "secrets.txt"),
        (0, 6, "n01440764_1.JPEG"),
        (1024, 7, "n01440764_1.JPEG"),
        (1024, 5, "n01440764_1.JPEG"),
        (1536, 6, "n01440764_1.JPEG"),
        (2048, 0, "n01440764_1.JPEG"),
    ):
        with pytest.raises((ArchiveError, FileNotFoundError)):
            read(str(path), offset, size, name)


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fetc%2Fpasswd", "../../etc/passwd", "n01440764_1.JPEG\n", ""]
)
def test_names_that_are_no_images(name: str) -> None:
    with pytest.raises((ArchiveError, FileNotFoundError)):
        read("/etc/passwd", 0, 10, name)


def test_an_error_shows_nothing_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "private"
    path.write_bytes(b"top secret".ljust(2000, b"!"))
    with pytest.raises(ArchiveError) as caught:
        read(str(path), 0, 1000)
    assert "secret" not in str(caught.value) and "!!" not in str(caught.value)


def test_a_huge_member_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "ILSVRC2012_img_val.tar"
    size = imagenet2012.storage.MAX_IMAGE_BYTES + 1
    with path.open("wb") as file:
        file.write(fakes.header("ILSVRC2012_val_00000001.JPEG", size))
        file.truncate(512 + size + (-size % 512) + 1024)
    with pytest.raises(ArchiveError):
        read(str(path), 0, size, "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ArchiveError, match="more than any image"):
        list(imagenet2012.load(tmp_path, split="validation", streaming=True))


def test_a_dataset_with_a_foreign_address(tmp_path: Path) -> None:
    address = "imagenet2012://%2Fetc%2Fpasswd/0-100/n01440764_1.JPEG"
    dataset = datasets.Dataset.from_dict({"image": [address]}).cast_column(
        "image", datasets.Image()
    )
    with pytest.raises(ArchiveError):
        dataset[0]
