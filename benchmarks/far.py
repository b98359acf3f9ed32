"""A folder whose files answer each read a millisecond later: ``far.py FOLDER MOUNTPOINT``.

It stands for the shared file system of a cluster. Reads overlap, as there: many may be under way.
The kernel caches what was read and reads ahead by at most 128 KiB, as it does for NFS. Needs
`mfusepy` from PyPI and libfuse 3 (Debian: `fuse3`). Ends when it is unmounted or terminated.
"""

import ctypes.util
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DELAY = 1e-3  # seconds
UNDER_WAY = 128  # reads at a time that the kernel may send, and threads that answer them


def serve(folder: Path, mountpoint: Path) -> None:
    """Answer for the files of `folder` until it is unmounted."""
    import mfusepy

    class Far(mfusepy.Operations):  # type: ignore[misc]
        """The files of a folder, to be read only."""

        use_ns = True

        def init_with_config(self, conn_info: Any, config_3: Any) -> None:
            conn_info.max_background = conn_info.congestion_threshold = UNDER_WAY
            conn_info.max_readahead = conn_info.max_read = 128 << 10
            config_3.kernel_cache = 1  # else each `open` would empty the page cache

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            try:
                found = os.lstat(f"{folder}{path}")
            except FileNotFoundError:
                raise mfusepy.FuseOSError(errno.ENOENT) from None
            return {name: getattr(found, name) for name in ("st_mode", "st_size", "st_nlink")} | {
                "st_mtime": found.st_mtime_ns
            }

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(f"{folder}{path}")]

        def open(self, path: str, flags: int) -> int:
            return os.open(f"{folder}{path}", os.O_RDONLY)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            time.sleep(DELAY)
            return os.pread(fh, size, offset)

        def release(self, path: str, fh: int) -> None:
            os.close(fh)

    mfusepy.FUSE(
        Far(), str(mountpoint), foreground=True, ro=True, max_read=128 << 10, max_threads=UNDER_WAY
    )


@contextmanager
def mounted(folder: Path, mountpoint: Path, python: Path) -> Iterator[Path | None]:
    """Mount `folder` while the block runs; gives None, and says why, where that cannot be done."""
    if missing := not_here(python):
        print(f"far rows are left out: {missing}", flush=True)
        yield None
        return
    mountpoint.mkdir()
    server = subprocess.Popen([str(python), __file__, str(folder), str(mountpoint)])
    try:
        end = time.monotonic() + 30
        while not mountpoint.is_mount():
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{mountpoint} could not be mounted: see the message above")
            time.sleep(0.05)
        yield mountpoint
    finally:
        subprocess.run(["fusermount3", "-u", str(mountpoint)], check=False)
        server.wait(30)


def not_here(python: Path) -> str | None:
    """Say what is missing for mounting a file system in user space, if anything is."""
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    if not ctypes.util.find_library("fuse3"):
        return "libfuse 3 is missing (Debian: apt install fuse3)"
    if subprocess.run([str(python), "-c", "import mfusepy"], capture_output=True).returncode:
        return "mfusepy is missing (pip install mfusepy)"
    return None


if __name__ == "__main__":
    serve(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
