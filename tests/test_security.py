"""Loading runs nothing, writes only its cache, needs no network, and reads no other files."""

import os
import subprocess
from pathlib import Path
from typing import Any

import datasets
import fakes
import fsspec
import pytest
from conftest import Archives, run_python
from layouts import VAL

import imagenet2012
from imagenet2012 import ArchiveError

IMAGE = "n01440764_1.JPEG"
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
if datasets.config.TORCH_AVAILABLE:
    import torch  # as `datasets` does where it streams; a build for CUDA then runs ldconfig
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
    # It is not the setting of the tests that keeps it from the network.
    variables = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    done = run_python(GUARDED, archives.folder, tmp_path, cwd=tmp_path, **variables)
    assert done.stdout == "60 7\n", done.stderr


def test_names_outside(tmp_path: Path, cache: dict[str, Any]) -> None:
    """Members are never extracted, so `..` and absolute names are only folders to pass over."""
    folder = tmp_path / "deep" / "archives"
    folder.mkdir(parents=True)
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5)]
    placed = zip(["../../", f"{tmp_path}/", "~/", "./"], names, strict=True)
    (folder / VAL).write_bytes(fakes.tar((prefix + name, b"x") for prefix, name in placed))
    before = set(tmp_path.rglob("*"))
    loaded = imagenet2012.load(folder, split="validation", **cache)
    assert loaded["file_name"][:] == names
    for path in set(tmp_path.rglob("*")) - before:
        assert path.is_relative_to(cache["cache_dir"])


# ------------------------------------------------------------------------- URLs in others' datasets


def read(archive: str, rest: str = f"0-6/{IMAGE}") -> bytes:
    """Read by a URL as a dataset that somebody else made may hold it."""
    return fsspec.filesystem("imagenet2012").cat_file(f"imagenet2012://{archive}/{rest}")


def quoted(path: object) -> str:
    return str(path).replace("/", "%2F")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with private tars around and in the folder that the variable names."""
    secret = fakes.tar([(IMAGE, b"secret")])
    folder = tmp_path / "house" / "imagenet"
    (folder / "sub").mkdir(parents=True)
    for path in (
        *(tmp_path / "house" / name for name in (VAL, "backup.tar")),
        *(folder / name for name in ("backup.tar", "n01440764.tar", ".tar", f"{VAL}.bak")),
        folder / "sub" / VAL,
    ):
        path.write_bytes(secret)
    monkeypatch.setenv("IMAGENET2012_DIR", str(folder))
    monkeypatch.chdir(folder)
    return folder


NAMES = ["backup.tar", "n01440764.tar", ".tar", f"{VAL}.bak", "", ".", "..", VAL.lower()]
NAMES += [f"{VAL}{end}" for end in ("%00", "%2F", "%2F..%2Fbackup.tar")]
NAMES += [f"{start}{VAL}" for start in ("..%2F", "sub%2F", "sub%2F..%2F..%2F", ".%2Fsub%2F")]
NAMES += [f"{start}{VAL}" for start in ("..%5C", "%2E%2E%2F", "~%2F", "C:", "%20")]
NAMES += [f"http%3A%2F%2F127.0.0.1%3A9%2F{VAL}", f"file%3A%2F%2F{VAL}", "..%2F..%2Fetc%2Fpasswd"]
NAMES += [f"%2Fnowhere{end}" for end in ("", "%2F", "%2F..", "%2Fbackup.tar", "%2Fn01440764.tar")]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_reads_nothing_but_original_archives(name: str, house: Path) -> None:
    """In the working directory too, though that is the very folder."""
    with pytest.raises((ArchiveError, FileNotFoundError)) as caught:
        read(name)
    assert "secret" not in str(caught.value)


def test_of_an_archive_nothing_but_images_is_read(tmp_path: Path) -> None:
    """Whole, under its own name, at its own place, by a header of a file."""
    files = [(name, b"secret") for name in ("secrets.txt", IMAGE, "n01440764_3.JPEG")]
    link = fakes.header("n01440764_2.JPEG", 0, b"2")
    (tmp_path / "any.tar").write_bytes(fakes.tar(files, blocking=512)[:-1024] + link + bytes(1024))
    archive = quoted(tmp_path / "any.tar")
    assert read(archive, f"1024-6/{IMAGE}") == b"secret"  # this one calls itself an image
    places = ("0-6", "512-6", "1024-5", "1024-7", f"1024-{1 << 40}", f"{1 << 62}-6", "1024-6/..")
    names = ("0-6/secrets.txt", "1024-6/n01440764_2.JPEG", "3072-0/n01440764_2.JPEG")
    for rest in (*(f"{place}/{IMAGE}" for place in places), *names, f"1024-6/{IMAGE}%0A", ""):
        with pytest.raises((ArchiveError, FileNotFoundError)):
            read(archive, rest)
    for address in ("imagenet2012:///etc/passwd", "imagenet2012://"):
        with pytest.raises(FileNotFoundError):
            fsspec.open(address).open()


@pytest.mark.parametrize("path", ["/etc/passwd", "/dev/zero", "/proc/self/environ", "/"])
def test_other_files_are_not_read(path: str, tmp_path: Path) -> None:
    for place in ("0-10", "0-0", "512-100", f"0-{1 << 40}"):
        with pytest.raises(ArchiveError) as caught:
            read(quoted(path), f"{place}/{IMAGE}")
        assert "root:" not in str(caught.value)
    address = f"imagenet2012://{quoted(path)}/0-100/{IMAGE}"
    for image in ({"bytes": None, "path": address}, address):  # loaded as anybody's dataset
        rows = datasets.Dataset.from_dict({"image": [image]})
        rows = rows.cast_column("image", datasets.Image())
        with pytest.raises(ArchiveError):
            rows[0]


def test_a_pipe_keeps_its_data(tmp_path: Path) -> None:
    """Opening alone would let its writer go on, and closing lose what it wrote."""
    pipe, link = tmp_path / VAL, tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    writer = subprocess.Popen(["sh", "-c", f"echo whole > {pipe}"])
    try:
        for way, given in (
            (read, quoted(pipe)),
            (read, quoted(link)),
            (imagenet2012.load, tmp_path),
        ):
            with pytest.raises(ArchiveError, match="not a regular file"):
                way(given)
        assert writer.poll() is None
        assert pipe.read_text() == "whole\n"
    finally:
        writer.kill()
        writer.wait()


def test_a_huge_member_does_not_fill_the_memory(tmp_path: Path) -> None:
    size, name = 1 << 32, "ILSVRC2012_val_00000001.JPEG"
    with (tmp_path / VAL).open("wb") as file:
        file.write(fakes.header(name, size))
        file.truncate(512 + size + (-size % 512) + 1024)
    with pytest.raises(ArchiveError):
        read(quoted(tmp_path / VAL), f"0-{size}/{name}")
    with pytest.raises(ArchiveError, match="more than any image"):
        list(imagenet2012.load(tmp_path, split="validation", streaming=True))


def test_a_row_leads_to_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    with pytest.raises(ArchiveError, match="is not called as an image"):
        list(imagenet2012.read_images([{"bytes": None, "path": str(tmp_path / "secret")}]))
