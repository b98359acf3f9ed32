"""Killed, cut short, out of disk, at the same time: the next run is right, and nothing is lost."""

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakes
import hostile
import pytest
from conftest import Process, ended, start_python

import imagenet2012
from rows import contents

TRAIN = "ILSVRC2012_img_train.tar"
PROGRAM = """
import glob, os, signal, sys
folder, cache, num_proc, stop_at = sys.argv[1:5]
taken, begun = 0, False

def count(size):
    global taken, begun
    taken += size
    if stop_at and taken > 1_000_000 and not begun:
        begun = True
        open(f"{stop_at}.{os.getpid()}", "x").close()
    if stop_at and taken > 15_000_000 and not os.path.exists(stop_at):
        if len(glob.glob(f"{stop_at}.*")) >= int(num_proc):  # all are at work
            open(stop_at, "x").close()
            os.killpg(0, signal.SIGSTOP)

pread = os.pread
os.pread = lambda fd, size, at: (count(size), pread(fd, size, at))[1]
import imagenet2012
if __name__ == "__main__":
    d = imagenet2012.load(folder, split="train", cache_dir=cache, num_proc=int(num_proc) or None,
        verification_mode="no_checks")
    print(d.num_rows)
"""


class Case:
    """Archives large enough to be interrupted over, and what must come out."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder / "archives", folder / "cache"
        self.folder.mkdir()
        filler = os.urandom(20_000)
        self.images = {
            wnid: [(f"{wnid}_{k}.JPEG", wnid.encode() + b"%d" % k + filler) for k in range(300)]
            for wnid in fakes.wnids()[:8]
        }
        (self.folder / TRAIN).write_bytes(fakes.train_tar(self.images))
        self.before = self.fingerprint()

    def fingerprint(self) -> dict[str, tuple[str, int]]:
        return {
            path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in self.folder.iterdir()
        }

    def start(self, num_proc: int = 0, stop_at: str = "", code: str = PROGRAM) -> Process:
        """Prepare in a process (group) of its own."""
        return start_python("-c", code, self.folder, self.cache, num_proc, stop_at)

    def start_and_stop(self, num_proc: int = 0) -> Process:
        """Prepare a third of it or more, and stop (the whole group) until told to go on."""
        process = self.start(num_proc, str(self.folder.with_name("stopped")))
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), process.communicate()
        assert list(self.cache.glob("**/*.incomplete/*.arrow"))
        return process

    def go_on(self, process: Process) -> str:
        """Let it and its workers end, and return what they said."""
        os.killpg(process.pid, signal.SIGCONT)
        return ended(process).stderr

    def check_next_run(self) -> None:
        """Everything is right now, and the user's folder is as it was."""
        expected = sorted(
            (name, data, fakes.wnids().index(wnid))
            for wnid, members in self.images.items()
            for name, data in members
        )
        options: dict[str, Any] = {"cache_dir": str(self.cache), "verification_mode": "no_checks"}
        loaded = imagenet2012.load(self.folder, split="train", **options)
        assert sorted(contents(loaded)) == expected
        made = list(self.cache.glob("**/data-5.0.0/*.arrow"))
        assert len(made) == len(loaded.cache_files), "stale shards were left in the cache"
        assert self.fingerprint() == self.before


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    for path in made.cache.glob("**/*.arrow"):
        path.unlink()


@pytest.mark.parametrize(
    ("number", "num_proc"),
    [(signal.SIGKILL, 0), (signal.SIGKILL, 2), (signal.SIGTERM, 2), (signal.SIGINT, 0)],
)
def test_killed_while_preparing(number: signal.Signals, num_proc: int, case: Case) -> None:
    process = case.start_and_stop(num_proc)
    # As a terminal or a batch system does: to the whole group.
    os.killpg(process.pid, number)
    case.go_on(process)
    assert process.returncode != 0
    # Of more processes, or another version, the next run would not write over it.
    for leftover in case.cache.glob("**/*.incomplete"):
        (leftover / "imagenet2012-train-00007-of-00009.arrow").write_bytes(b"stale")
    case.check_next_run()
    assert not list(case.cache.glob("**/*.incomplete"))


def test_only_the_parent_is_killed(case: Case) -> None:
    """Workers that are left behind neither block nor spoil the next run."""
    process = case.start_and_stop(num_proc=2)
    process.kill()
    os.killpg(process.pid, signal.SIGCONT)
    case.check_next_run()
    os.killpg(process.pid, signal.SIGKILL)
    ended(process)


# ------------------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.parametrize("num_proc", [0, 2])
def test_a_disk_that_fills_up(num_proc: int, small_disk: Path, case: Case) -> None:
    """Another program takes the room after the check; afterwards the disk is as free as before."""
    room = "import shutil, types\n"
    room += "shutil.disk_usage = lambda _: types.SimpleNamespace(free=1 << 40)\n"
    cache, case.cache = case.cache, small_disk / "cache"
    done = ended(case.start(num_proc, code=PROGRAM.replace("if __name__", f"{room}if __name__")))
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    assert not list(small_disk.rglob("*.arrow"))
    case.cache = cache
    case.check_next_run()


# ------------------------------------------------------------------------- archives that change


def test_cut_while_it_is_read(case: Case) -> None:
    process = case.start_and_stop(num_proc=2)
    data = (case.folder / TRAIN).read_bytes()
    os.truncate(case.folder / TRAIN, 10_000)
    stderr = case.go_on(process)
    assert process.returncode != 0
    assert TRAIN in stderr.splitlines()[-2] + stderr.splitlines()[-1]
    (case.folder / TRAIN).write_bytes(data)
    case.before = case.fingerprint()
    case.check_next_run()


def test_rewritten_while_it_is_read(case: Case) -> None:
    """The same size and names, but other images: half of one and half of the other is an error."""
    process = case.start_and_stop()
    with (case.folder / TRAIN).open("r+b") as file:
        file.seek(-30_000, os.SEEK_END)
        file.write(b"!")
    stderr = case.go_on(process)
    assert "changed while it was being read" in stderr or "changed since" in stderr
    assert not list(case.cache.glob("**/data-5.0.0/*.arrow"))


def test_replaced_before_it_is_read(tmp_path: Path) -> None:
    """After it was checked, as of a stream that waits, or for a worker that starts late."""
    fakes.make_archives(tmp_path, 3, 4, 0)
    stream = imagenet2012.load(tmp_path, split="train", streaming=True)
    fakes.make_archives(tmp_path / "new", 3, 5, 0)
    (tmp_path / "new" / TRAIN).replace(tmp_path / TRAIN)
    with pytest.raises(imagenet2012.ArchiveError, match="changed since"):
        list(stream)


@pytest.mark.parametrize("num_proc", [0, 2])
def test_the_cause_is_shown(num_proc: int, case: Case) -> None:
    """In the last lines, with archive, offset and member, also from another process."""
    data = bytearray((case.folder / TRAIN).read_bytes())
    at = data.index(b"n01491361_250.JPEG")
    data[at : at + 18] = b"n01440764_250.JPEG"
    data[at : at + 512] = hostile.checksummed(bytes(data[at : at + 512]))
    (case.folder / TRAIN).write_bytes(data)
    last = "\n".join(ended(case.start(num_proc)).stderr.splitlines()[-2:])
    assert f"{TRAIN}, at byte {at:,}: 'n01440764_250.JPEG' does not belong in n01491361" in last


# ------------------------------------------------------------------------- at the same time


def test_two_prepare_at_once(case: Case) -> None:
    """One waits for the other, and takes what it made."""
    both = [case.start(), case.start(num_proc=2)]
    for done in map(ended, both):
        assert done.stdout == "2400\n", done.stderr
    case.check_next_run()
