"""The limits: `cp` and `cat` of the archives, and loops of nothing but system calls."""

import argparse
import subprocess
from collections.abc import Callable

import bare
import protocol
from protocol import Result
from protocol import timed


def opened(args: argparse.Namespace) -> bare.Bare:
    return bare.Bare(args.archives / bare.TRAIN)


def copy(args: argparse.Namespace) -> Result:
    """Copy both archives into the work folder with `cp`."""
    with timed() as timer:
        subprocess.run(["cp", *args.archives.glob("*.tar"), args.work], check=True)
    return {"seconds": timer.seconds}


def cat(args: argparse.Namespace) -> Result:
    """Read both archives with `cat`, through a pipe; or of train as much as `count` images take."""
    files, volume = sorted(args.archives.glob("*.tar")), args.count * 111_000
    with timed() as timer, subprocess.Popen(["cat", *files], stdout=subprocess.PIPE) as process:
        buffer, read = bytearray(1 << 20), 0
        while process.stdout and (size := process.stdout.readinto(buffer)):
            read += size
            if volume and read >= volume:
                process.terminate()
                break
    return {"seconds": timer.seconds, "images": read // 111_000}


def loop(read: Callable[..., int], **options: int) -> protocol.Measure:
    """Return the measure of a loop over the training archive."""

    def measure(args: argparse.Namespace) -> Result:
        more = {"count": args.count} if args.count else {}
        with timed() as timer:
            images = read(args.archives / bare.TRAIN, **more, **options)
        return {"seconds": timer.seconds, "images": images}

    return measure


if __name__ == "__main__":
    protocol.main(
        opened=opened,
        cp=copy,
        cat=cat,
        headers=loop(bare.headers),
        headers_under_way=loop(bare.headers, under_way=32),
        mixed=loop(bare.mixed),
        mixed_announced=loop(bare.mixed, announced=True),
    )
