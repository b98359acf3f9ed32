"""Splits: which an expression names, how many images they have, and the copy of each."""

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import datasets
from datasets.exceptions import NonMatchingSplitsSizesError

from .ilsvrc2012 import NAME, NO_CHECKS, SOURCES, VERSION, ArchiveError, without_secrets
from .remote import Options
from .storage import is_dir, logger
from .tables import repeated_name
from .trees import status_of_split

# ------------------------------------------------------------------------- expressions


def cut_split(split: Any, splits: Iterable[str]) -> list[tuple[str, str]]:
    """Cut an expression such as ``train[:10%]+validation`` into parts of one split each.

    Returns the name of the split and the part of it, for each; ``all`` stands for `splits`.
    Raises `ValueError` if there is no such split.
    """
    if str(split) == "all":
        return [(name, name) for name in splits]
    if not isinstance(split, datasets.ReadInstruction):
        split = datasets.ReadInstruction.from_spec(str(split))
    parts = [(re.split(r"\W", part, maxsplit=1)[0], part) for part in split.to_spec().split("+")]
    for name, _ in parts:
        if name not in SOURCES:
            raise ValueError(f"There is no split {name!r}, only {', '.join(SOURCES)}.")
    return parts


def joined(split: Any, splits: Iterable[str], give: Callable[[str, str], Any]) -> Any:
    """Return the datasets that `give` gives of the parts of an expression as one; lists as lists.

    `give` takes the name of a split and the part of it, as `cut_split` returns them.
    """
    if isinstance(split, list | tuple):
        return [joined(one, splits, give) for one in split]
    parts = cut_split(split, splits)
    given = [give(*part) for part in parts]
    if len(given) == 1:
        return given[0]
    name = datasets.NamedSplit("+".join(part for _, part in parts))
    return datasets.concatenate_datasets(given, split=name)


# ------------------------------------------------------------------------- copies

# Stands in the path of a copy for the hash of the script that `datasets` would put there: a new
# release must not cost anybody 144 GiB and an hour unless it changes the data.
DATA_HASH = f"data-{VERSION}"
NOTE = "archives.json"
AGAIN = 'To make it again, pass download_mode="force_redownload".'


def copy_name(config: str, split: str, path: str, options: Options = None) -> str:
    """Name the folder of a copy of the archive or tree at `path` by what is in it.

    Of an archive of the official size that is configuration and split. Others are told apart by
    name, size and time of change, and rows in place by the path of the archive, which they hold.
    Where `path` is empty, as the archive is gone, only the copy of an official one can be found.
    """
    told: list[Any] = []
    was = seen(path, options) if path else {}
    if was and was["size"] != SOURCES[split].size:
        told = [without_secrets(path).rpartition("/")[2], *was.values()]
    if path and config == "in_place":
        told.append(path)
    return f"{config}-{split}" + (f"-{hash_of(told)}" if told else "")


def hash_of(thing: Any) -> str:
    """Return 16 hexadecimal digits that tell one thing from another, the same in each process."""
    return hashlib.sha256(os.fsencode(repr(thing))).hexdigest()[:16]


def copies_in(cache: str, config: str) -> list[str]:
    """Return the splits of which a cache has a copy of the official archive."""
    place = f"{cache}/{NAME}/{config}-{{}}/{VERSION}/{DATA_HASH}"
    return [split for split in SOURCES if is_dir(place.format(split))]


def is_made(folder: str, download_mode: Any) -> bool:
    """Tell whether there is a copy, in its folder, that will not be made again."""
    reuse = datasets.DownloadMode.REUSE_DATASET_IF_EXISTS
    return datasets.DownloadMode(download_mode or reuse) == reuse and is_dir(folder)


def seen(path: str, options: Options = None) -> dict[str, Any]:
    """Return what tells an archive or tree from another: size, and time of change or ETag."""
    status = status_of_split(path, options)
    return {"size": status.size, "version": status.version} if status else {}


def finish_copy(
    folder: str, split: str, path: str, count: int | None, options: Options = None
) -> None:
    """Check a copy that was just made of the archive at `path`, and note in it what that was.

    Without a `count` it is not held to the original's.
    """
    expected = SOURCES[split].num_examples
    if count not in (None, expected):
        raise NonMatchingSplitsSizesError(
            f"There are {count:,} images instead of {expected:,} in {without_secrets(path)}. "
            f"For a subset {NO_CHECKS}."
        )
    # A class is read in one stretch, whose rows tell if a name appears twice.
    if split != "train" and (name := repeated_name(folder, f"{NAME}-{split}")):
        raise ArchiveError(path, f"{name!r} appears twice in it.")
    with io.FileIO(f"{folder}/{NOTE}", "w") as file:
        file.write(json.dumps({split: seen(path, options)}, indent=2).encode())


def warn_of_copy(folder: str, split: str, path: str, count: int | None, options: Options) -> None:
    """Warn if a copy, of `count` images, may not be what is asked for.

    `path` is that of the archive that is there now, or empty if there is none. Without a
    `count` it is not held to the original's.
    """
    with io.FileIO(f"{folder}/{NOTE}") as file:
        made_of = json.loads(file.readall())[split]
    expected = SOURCES[split].num_examples
    if not path:
        logger.warning(f"No {split} archive was found: this is the copy in {folder}.")
    elif seen(path, options).items() - made_of.items():
        logger.warning(
            f"{path} was changed, or only touched or copied, since the copy in {folder} was made "
            f"of it. {AGAIN}"
        )
    if count not in (None, expected):
        logger.warning(
            f"The copy in {folder} has {count:,} {split} images, the original {expected:,}: it was "
            f"made without checks. {AGAIN}"
        )


def check_main_guard() -> None:
    """Raise `RuntimeError` in a new process that still runs its parent's script, to know it.

    Such a process would wait for the parent's lock on the copy, and the parent for the process.
    """
    # A spawned process runs the script as the module "__mp_main__", which becomes "__main__", too,
    # once it has run.
    script = sys.modules.get("__mp_main__")
    if script is not None and script is not sys.modules["__main__"]:
        raise RuntimeError(
            "num_proc starts processes that run this script again from its first line, as always "
            'with multiprocessing by spawn. Put what it does below `if __name__ == "__main__":`.'
        )
