"""The limits: `cp` and `cat` of the archives, and loops of nothing but system calls."""

import argparse
import json
import subprocess
from collections.abc import Callable

import bare
import protocol
from protocol import Result
from protocol import timed


def prepare(args: argparse.Namespace) -> int:
    """Keep where each image lies for `opened`, so that it need not read the archive."""
    places = opened(args).places
    (args.work / "places.json").write_text(json.dumps(places))
    return len(places)


def opened(args: argparse.Namespace) -> bare.Bare:
    kept = args.work / "places.json"
    places = [bare.Place(*one) for one in json.loads(kept.read_text())] if kept.exists() else None
    return bare.Bare(args.archives / bare.TRAIN, places)


def copy(args: argparse.Namespace) -> Result:
    """Copy both archives into the work folder with `cp`."""
    with timed() as timer:
        subprocess.run(["cp", *args.archives.glob("*.tar"), args.work], check=True)
    return {"seconds": timer.seconds}


def cat(args: argparse.Namespace) -> Result:
    """Read both archives, or the one of the variant, with `cat`, through a pipe."""
    files = sorted(args.archives.glob(f"*{args.variant}*.tar"))
    with timed() as timer, subprocess.Popen(["cat", *files], stdout=subprocess.PIPE) as process:
        buffer = bytearray(1 << 20)
        while process.stdout and process.stdout.readinto(buffer):
            pass
    return {"seconds": timer.seconds}


def find(args: argparse.Namespace) -> Result:
    """List extracted images with `find`."""
    command = ["find", args.archives / "train", "-name", "*.JPEG"]
    with timed() as timer:
        found = subprocess.run(command, check=True, capture_output=True).stdout
    return {"seconds": timer.seconds, "images": found.count(b"\n")}


def loop(read: Callable[..., list[bare.Place]], **options: int) -> protocol.Measure:
    """Return the measure of a loop over the training archive."""

    def measure(args: argparse.Namespace) -> Result:
        more = {"count": args.count} if args.count else {}
        with timed() as timer:
            images = read(args.archives / bare.TRAIN, **more, **options)
        return {"seconds": timer.seconds, "images": len(images)}

    return measure


if __name__ == "__main__":
    protocol.main(
        prepare,
        opened,
        cp=copy,
        find=find,
        cat=cat,
        headers=loop(bare.headers),
        headers_under_way=loop(bare.headers, under_way=32),
        mixed=loop(bare.mixed),
        mixed_announced=loop(bare.mixed, announced=True),
    )
