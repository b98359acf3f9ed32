"""A folder whose files answer each read a millisecond later: ``far.py FOLDER MOUNTPOINT``.

It stands for the shared file system of a cluster. Reads overlap, as there: up to 128 may wait at a
time. The kernel caches what was read, and asks for at most 128 KiB at once, as of many network
mounts. Files can only be read. It ends when it is unmounted (``fusermount3 -u MOUNTPOINT``).

This speaks the kernel's protocol itself (linux/fuse.h), in one thread: behind libfuse, with a
Python thread for each read, the server takes three times as long for a read, and it is the loader
that shall be measured. Needed are Linux and the program `fusermount3` (Debian: ``fuse3``).
"""

import array
import collections
import errno
import os
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DELAY = 1e-3  # seconds
UNDER_WAY = 128  # reads that the kernel may send before the first is answered
LARGEST = 128 << 10  # bytes of a read
FOREVER = 1 << 30  # seconds for which the kernel may keep names and attributes
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH = 1, 2, 3, 14, 15, 18, 25
FSYNC, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 20, 26, 27, 28, 29, 36, 42
SILENT = (FORGET, INTERRUPT, BATCH_FORGET)
DONE = (RELEASE, FLUSH, FSYNC, RELEASEDIR)


def mount(mountpoint: str) -> int:
    """Mount on an empty folder; return the file through which the kernel asks."""
    ours, theirs = socket.socketpair()
    options = f"ro,fsname=far,max_read={LARGEST}"
    subprocess.run(
        ["fusermount3", "-o", options, "--", mountpoint],
        env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
        check=True,
    )
    _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    return array.array("i", ancillary[0][2])[0]


class Server:
    """Answers for the files of a folder; a node's number is its place in `paths`, from 1 on."""

    def __init__(self, folder: str, kernel: int) -> None:
        self.kernel = kernel
        self.paths = [folder]
        self.files: dict[int, int] = {}
        self.waiting: collections.deque[tuple[float, int, int, int, int]] = collections.deque()

    def run(self) -> None:
        """Serve until it is unmounted."""
        while True:
            timeout = max(0.0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            if select.select([self.kernel], [], [], timeout)[0]:
                try:
                    request = os.read(self.kernel, LARGEST + 4096)
                except OSError as error:
                    if error.errno == errno.ENODEV:  # unmounted
                        return
                    raise
                self.take(request)
            while self.waiting and self.waiting[0][0] <= time.monotonic():
                _, unique, file, size, offset = self.waiting.popleft()
                self.reply(unique, os.pread(file, size, offset))

    def reply(self, unique: int, data: bytes = b"", error: int = 0) -> None:
        os.writev(self.kernel, [struct.pack("<IiQ", 16 + len(data), -error, unique), data])

    def take(self, request: bytes) -> None:
        """Answer a request at once, or put it among those that wait."""
        _, code, unique, node = struct.unpack_from("<IIQQ", request)
        body = request[40:]
        if code == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            file = self.files[node]
            os.posix_fadvise(file, offset, size, os.POSIX_FADV_WILLNEED)  # the disk works meanwhile
            self.waiting.append((time.monotonic() + DELAY, unique, file, size, offset))
        elif code not in SILENT:
            try:
                self.reply(unique, self.answer(code, node, body))
            except OSError as error:
                self.reply(unique, error=error.errno or errno.EIO)

    def answer(self, code: int, node: int, body: bytes) -> bytes:
        """Return the answer to anything but a read."""
        if code == INIT:
            # Version 7.31, reads in parallel, and the greatest numbers of them.
            head = struct.pack("<IIIIHH", 7, 31, LARGEST, 1, UNDER_WAY, UNDER_WAY)
            return head + struct.pack("<II", 4096, 1) + bytes(36)
        if code == LOOKUP:
            path = f"{self.paths[node - 1]}/{body.rstrip(bytes(1)).decode()}"
            attributes = self.attributes(path)
            if path not in self.paths:
                self.paths.append(path)
            number = self.paths.index(path) + 1
            return struct.pack("<QQQQII", number, 0, FOREVER, FOREVER, 0, 0) + attributes
        path = self.paths[node - 1]
        if code == GETATTR:
            return struct.pack("<QII", FOREVER, 0, 0) + self.attributes(path)
        if code == OPEN and node not in self.files:
            self.files[node] = os.open(path, os.O_RDONLY)
        if code in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 2, 0)  # keep what is in the page cache
        if code == READDIR:
            return self.names(path) if struct.unpack_from("<QQ", body)[1] == 0 else b""
        if code in DONE:
            return b""
        raise OSError(errno.ENOSYS, "not needed here")

    def attributes(self, path: str) -> bytes:
        found = os.stat(path)
        whole, nanoseconds = divmod(found.st_mtime_ns, 10**9)
        blocks = (found.st_ino, found.st_size, found.st_blocks, whole, whole, whole)
        more = (*3 * (nanoseconds,), found.st_mode, found.st_nlink, found.st_uid, found.st_gid)
        return struct.pack("<6Q10I", *blocks, *more, 0, 4096, 0)

    def names(self, path: str) -> bytes:
        parts = []
        for place, entry in enumerate(os.scandir(path), 1):
            name = entry.name.encode()
            kind = stat.S_IFMT(entry.stat().st_mode) >> 12
            parts.append(struct.pack("<QQII", entry.inode(), place, len(name), kind) + name)
            parts.append(bytes(-len(name) % 8))
        return b"".join(parts)


@contextmanager
def mounted(folder: Path, mountpoint: Path) -> Iterator[Path | None]:
    """Mount `folder` while the block runs; gives None, and says why, where that cannot be done."""
    if not Path("/dev/fuse").exists() or not shutil.which("fusermount3"):
        print("far rows are left out: /dev/fuse or fusermount3 is missing (Debian: fuse3)")
        yield None
        return
    mountpoint.mkdir()
    server = subprocess.Popen([sys.executable, __file__, str(folder), str(mountpoint)])
    try:
        while not mountpoint.is_mount():
            if server.poll() is not None:
                raise RuntimeError(f"{mountpoint} could not be mounted: see the message above")
            time.sleep(0.05)
        yield mountpoint
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(mountpoint)], check=False)
        server.wait(30)


if __name__ == "__main__":
    Server(str(Path(sys.argv[1]).resolve()), mount(sys.argv[2])).run()
