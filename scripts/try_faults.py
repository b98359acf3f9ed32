"""The long run of what goes wrong around archives: ``python scripts/try_faults.py [COUNT] [SEED]``.

- Addresses of images in place that somebody forged: each must give the bytes of the image that it
  names, or an error, and no connection is made.
- A web server that spoils one of 20 answers: every row of streams, copies and rows in place is
  held to the archives.
- Exports that are killed (SIGKILL, the whole group) at any moment until one ends: each byte of it
  is held to that of an export that nobody disturbed.

COUNT exports, and a hundred times as many addresses. Prints what was tried, and all that was wrong.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]  # tests/rows.py before rows.py
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import fakes  # noqa: E402
import web_server  # noqa: E402
from imagenet2012.in_place import Imagenet2012FileSystem  # noqa: E402
from imagenet2012.storage import FOLDER_VARIABLE  # noqa: E402

import imagenet2012  # noqa: E402
from imagenet2012 import remote  # noqa: E402
from rows import contents, undecoded, wanted  # noqa: E402

Expected = dict[str, dict[str, fakes.Expected]]


def spoilt_answers(folder: Path, expected: Expected, rnd: random.Random) -> list[str]:
    """Read all splits in all ways from a server that spoils answers."""
    remote.PAUSES = (0.01,) * 5
    wrong, rows = [], 0
    with web_server.running() as web:
        for path in folder.iterdir():
            web.files[f"/{path.name}"] = path.read_bytes()
        web.faults = rnd
        os.environ[FOLDER_VARIABLE] = web.url
        ways = [{"streaming": True, "order": order} for order in ("archive", "mixed")]
        for way in [*ways, {"name": "default"}, {"name": "in_place"}]:
            with tempfile.TemporaryDirectory() as cache:
                loaded = imagenet2012.load(verification_mode="no_checks", cache_dir=cache, **way)
                for split, dataset in loaded.items():
                    found = sorted(contents(dataset))
                    rows += len(found)
                    if found != wanted(expected[split]):
                        wrong.append(f"{split} {way}: other rows")
        del os.environ[FOLDER_VARIABLE]
        print(f"{rows:,} rows from {web.requests:,} answers, {web.spoilt:,} of them spoilt")
    return wrong


def killed_exports(folder: Path, count: int, rnd: random.Random) -> list[str]:
    """Kill exports until they end, and compare what they wrote."""
    wrong, kills = [], 0
    with tempfile.TemporaryDirectory() as work:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": f"{work}/home"}

        def start(output: str) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-m", "imagenet2012", "export", str(folder), output]
            command += ["--no-checks", "--shard-size", "40kB", "--num-proc", "2"]
            quiet = subprocess.DEVNULL
            return subprocess.Popen(command, env=env, start_new_session=True, stdout=quiet)

        began = time.time()
        start(f"{work}/0").wait()
        seconds, whole = time.time() - began, hashes(f"{work}/0")
        for number in range(1, count + 1):
            while True:
                process = start(f"{work}/{number}")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(rnd.uniform(seconds / 2, seconds))
                    break
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
            if hashes(f"{work}/{number}") != whole:
                wrong.append(f"export {number} differs")
    print(f"{count:,} exports, {kills:,} kills")
    return wrong


def hashes(output: str) -> dict[str, str]:
    """Return the SHA-256 of each file of an export."""
    files = Path(output, "data").iterdir()
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def forged_addresses(folder: Path, expected: Expected, count: int, rnd: random.Random) -> list[str]:
    """Read forged URLs of images in place."""
    with tempfile.TemporaryDirectory() as work:
        rows = imagenet2012.load(
            folder, "in_place", split="validation", verification_mode="no_checks", cache_dir=work
        )
        urls = [image["path"] for image in undecoded(rows)["image"]]
        images = {name: e.data for split in expected.values() for name, e in split.items()}
        seen, wrong = Counter[str](), list[str]()
        sys.addaudithook(watch(seen))
        for _ in range(count):
            url = forge(rnd.choice(urls), rnd)
            try:
                data = Imagenet2012FileSystem.read_image(url)
            except (OSError, ValueError):
                seen["refused"] += 1
                continue
            seen["the image that it names"] += 1
            if data != images.get(url.rpartition("/")[2]):
                wrong.append(f"{url}: other bytes")
    print(f"{count:,} forged addresses: " + ", ".join(f"{n:,} {what}" for what, n in seen.items()))
    return wrong + [what for what in seen if what.startswith("event")]


def watch(seen: Counter[str]) -> Callable[[str, tuple[object, ...]], None]:
    """Count connections and processes."""

    def hook(event: str, told: tuple[object, ...]) -> None:
        if event in ("socket.connect", "subprocess.Popen"):
            seen[f"event {event} {told}"] += 1

    return hook


def forge(url: str, rnd: random.Random) -> str:
    """Change a part of a URL or several."""
    path, place, name = url.removeprefix("imagenet2012://").split("/")
    offset, size = map(int, place.split("-"))
    archive = Path(path.replace("%2F", "/"))
    others = [
        "/etc/passwd", "/dev/zero", "/dev/tty", "/proc/self/environ", "http://127.0.0.1:9/x.tar",
        "s3::http://127.0.0.1:9/x", "file:///etc/passwd", "../" + archive.name, f"~/{archive.name}",
        f"{archive.parent}/../{archive.parent.name}/{archive.name}", archive.name, "",
        "\0", "a" * 5000,
        str(archive.with_name("ILSVRC2012_img_train.tar")), str(archive.parent), f"{archive}/x",
    ]  # fmt: skip
    for _ in range(rnd.choice((1, 1, 2))):
        part = rnd.randrange(4)
        if part == 0:
            path = quote(rnd.choice(others), safe=rnd.choice(("", "/", ":/")))
        elif part == 1:
            steps = (rnd.randint(-2048, 2048), 512 * rnd.randint(-40, 40), 1 << rnd.randint(0, 70))
            offset += rnd.choice(steps)
        elif part == 2:
            size = rnd.choice((0, 1, size + 1, size - 1, -1, 1 << rnd.randint(0, 70)))
        else:
            number = rnd.randint(0, 120)
            name = rnd.choice((f"ILSVRC2012_val_{number:08d}.JPEG", "passwd", "../x", name + "x"))
    return f"imagenet2012://{path}/{offset}-{size}/{name}"


def main() -> None:
    """Try all of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    rnd = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        expected = fakes.make_archives(folder, 40, 15, 400, 60)
        wrong = forged_addresses(folder, expected, 100 * count, rnd)
        wrong += spoilt_answers(folder, expected, rnd)
        wrong += killed_exports(folder, count, rnd)
    print(*wrong, f"{len(wrong)} failures", sep="\n")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
