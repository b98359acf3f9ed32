"""What the benchmark scripts share: environments, and runs of scripts that print a JSON line."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TIMEOUT = 1200
PINS = {
    "torch": (
        "torch==2.14.1",
        "torchvision==0.29.1",
        "timm==1.0.31",
        "webdataset==1.0.2",
        "datasets==5.2.0",
        "pillow==13.0.0",
        "torchcodec==0.17.0",
    ),
    "tf": (
        "tensorflow-cpu==2.21.0",
        "tensorflow-datasets==4.9.10",
        "importlib_resources==7.1.0",
        "pillow==13.0.0",
    ),
    # Optional: Python 3.10, a compiler, and Debian's libturbojpeg0-dev and libopencv-dev build it.
    "ffcv": ("numpy<2", "torch==2.1.2", "torchvision==0.16.2", "numba==0.59.1", "ffcv==1.0.2"),
}
INTERPRETERS = {"ffcv": "python3.10"}

Result = dict[str, Any]
Pythons = Mapping[str, Path | None]


def environment(name: str, folder: Path) -> Path | None:
    """Return the Python of an environment, which is made if need be; None if that fails."""
    path = folder / name
    python = path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = path / ".installed"
    pins = "\n".join(PINS[name])
    if python.exists() and done.exists() and done.read_text() == pins:
        return python
    print(f"making the environment {name}: {', '.join(PINS[name])}", flush=True)
    try:
        create_environment(name, path, python)
    except (OSError, subprocess.CalledProcessError):
        print(f"  the environment {name} cannot be made here: its peers are left out")
        return None
    done.write_text(pins)
    return python


def create_environment(name: str, path: Path, python: Path) -> None:
    """Make an environment with its pins, of another Python if its packages need that."""
    interpreter = shutil.which(INTERPRETERS.get(name, sys.executable))
    if interpreter is None:
        raise FileNotFoundError(INTERPRETERS[name])
    subprocess.run([interpreter, "-m", "venv", "--clear", path], check=True)
    install = [python, "-m", "pip", "install", "--quiet"]
    if name != "ffcv":
        subprocess.run([*install, *PINS[name]], check=True)
        return
    # What it is built with must be there before.
    subprocess.run([*install, "setuptools<70", "wheel", *PINS[name][:-1]], check=True)
    subprocess.run([*install, "--no-build-isolation", PINS[name][-1]], check=True)


def memory(room: float) -> Path | None:
    """Return the memory-backed file system, where there is one with so many bytes free."""
    path = Path("/dev/shm")
    return path if path.is_dir() and shutil.disk_usage(path).free > room else None


TOUCH = """
import mmap, sys
size, step = int(sys.argv[1]), 1 << 21
memory = mmap.mmap(-1, size)
for start in range(0, size - step, step):
    memory[start : start + step] = bytes(step)
"""


def touch_memory(archives: Path, writes: bool) -> None:
    """Make the memory that a run may fill the machine's own, if it `writes` a copy.

    A virtual machine gives free memory back to its host. To get it again takes longer than to write
    to it, which would fall on whoever comes first.
    """
    size = sum(path.stat().st_blocks * 512 for path in archives.iterdir()) if writes else 0
    subprocess.run([sys.executable, "-c", TOUCH, str(int(1.5 * size) or 1)], check=False)


def forget(path: Path) -> None:
    """Take a file out of the page cache, so that the next reader finds it cold."""
    with path.open("rb") as file:
        os.fsync(file.fileno())  # what is not yet written cannot be dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(
    python: Path | None, script: str, measure: str, archives: Path, work: Path, *args: object
) -> Result:
    """Run a script of ``peers/`` and return what it reports; with ``"error"`` if it failed."""
    if python is None:
        return {"error": "its environment cannot be made on this machine"}
    path = HERE / "peers" / f"{script}.py"
    command = [python, path, measure, "--archives", archives, "--work", work, *args]
    # What the libraries keep goes where the measured data are, never into the user's home.
    quiet = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    env = os.environ | {"HF_HOME": str(work / "hf")} | quiet
    command = [str(part) for part in command]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {TIMEOUT} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["nothing printed"])[-1]}
    return dict(json.loads(lines[-1]))


def make_archives(python: Path | None, folder: Path, *args: str) -> None:
    """Make archives, in a process of its own: what it takes would count as its sibling's memory."""
    if python is None:
        sys.exit("this loader's environment cannot be made")
    print(f"making archives in {folder}", flush=True)
    subprocess.run([python, HERE / "make_archives.py", folder, *args], check=True)


def make_export(python: Path | None, archives: Path, folder: Path, tree: Path) -> None:
    """Export the training images at 256 pixels, and write the same images into class folders."""
    print(f"making an export in {folder}", flush=True)
    export = ["-m", "imagenet2012", "export", archives, folder, "--size", "256", "--no-checks"]
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(HERE.parent))))
    env = os.environ | {"PYTHONPATH": path}
    subprocess.run([str(python), *map(str, export), "--split", "train"], env=env, check=True)
    subprocess.run([str(python), HERE / "make_tree.py", folder, tree], check=True)


def extract(archive: Path, folder: Path) -> None:
    """Extract the images of a training archive into class folders."""
    with tarfile.open(archive) as classes:
        for one in classes:
            with tarfile.open(fileobj=classes.extractfile(one)) as images:
                images.extractall(folder / one.name.removesuffix(".tar"), filter="data")


def machine() -> str:
    """Say in one line what the figures were measured on."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return (
        f"{os.cpu_count()} cores ({cpu}), {size:.0f} GiB of memory, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )


def commit() -> str:
    """Return what is measured, as git names it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "an unknown commit"
