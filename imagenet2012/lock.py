"""A lock on a folder, which says who holds it."""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import filelock

from imagenet2012.archives import NOT_WRITABLE

NAME, OWNER = ".imagenet2012.lock", ".imagenet2012.owner"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it does not exist.

    The system frees the lock of a process that ends, however it ends. On a file system that has no
    locks, or may not be written to, none is held.

    Raises
    ------
    BlockingIOError
        If another process holds it; the message says which, and on which host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = filelock.FileLock(folder / NAME), folder / OWNER
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise BlockingIOError(
            f"{_read(owner)} is writing to {folder}. Wait until it has ended, or pass another "
            "--output."
        ) from error
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOLCK) not in NOT_WRITABLE:
            raise
        yield
        return
    try:
        # A file of its own: the other one is emptied by whoever tries to lock it.
        owner.write_text(f"Process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _read(owner: Path) -> str:
    with contextlib.suppress(OSError):
        return owner.read_text(encoding="utf-8") or "Another process"
    return "Another process"
