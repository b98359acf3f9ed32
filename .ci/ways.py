"""Load small archives in every way, and compare each row with them: ``python .ci/ways.py``.

`.ci/run` runs this on each minor version of `datasets` that pyproject.toml admits.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

WORK = tempfile.TemporaryDirectory()
ROOT = Path(__file__).resolve().parent.parent
os.environ["HF_HOME"] = f"{WORK.name}/home"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import datasets  # noqa: E402
import fakes  # noqa: E402

import imagenet2012  # noqa: E402
from rows import contents, wanted  # noqa: E402

BOTH = "train+validation"


def ways(folder: str) -> dict[str, Callable[..., Any]]:
    """Return each way of loading, by its name."""
    load = partial(imagenet2012.load, folder)
    by_name = partial(datasets.load_dataset, "imagenet2012", data_dir=folder)
    found: dict[str, Callable[..., Any]] = {
        "stream, as in the archives": partial(load, streaming=True, order="archive"),
        "stream, mixed": partial(load, streaming=True, order="mixed"),
        "stream, one split": partial(load, streaming=True, split="validation"),
        "stream by name": partial(by_name, streaming=True),
    }
    for name in ("default", "in_place"):
        found |= {
            name: partial(load, name),
            f"{name}, 2 processes": partial(load, name, num_proc=2),
            f"{name}, {BOTH}": partial(load, name, split=BOTH),
            f"{name} by name": partial(by_name, name),
            f"{name} by name, 2 processes": partial(by_name, name, num_proc=2),
            f"{name} by name, {BOTH}": partial(by_name, name, split=BOTH),
        }
    return found


def is_right(loaded: Any, expected: dict[str, Any]) -> bool:
    """Compare all rows with what is in the archives."""
    if not isinstance(loaded, dict):
        splits = str(loaded.split).split("+")
        return sorted(contents(loaded)) == sorted(
            row for s in splits for row in wanted(expected[s])
        )
    return loaded.keys() == expected.keys() and all(
        is_right(loaded[split], expected) for split in expected
    )


def main() -> None:
    """Say which ways are wrong, and at last how many there are."""
    expected = fakes.make_archives(Path(WORK.name, "archives"), 12, 5, 90)
    wrong = []
    for number, (way, load) in enumerate(ways(f"{WORK.name}/archives").items()):
        try:
            loaded = load(cache_dir=f"{WORK.name}/{number}", verification_mode="no_checks")
            right = is_right(loaded, expected)
        except Exception:
            traceback.print_exc()
            right = False
        wrong += [] if right else [way]
    print(
        f"datasets {datasets.__version__}: {number + 1} ways of loading, wrong: {wrong or 'none'}"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
