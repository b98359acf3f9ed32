"""What a copy was made of, noted beside it, so that it is found when its archives are gone."""

import io
import json
import os
from typing import Any

from .ilsvrc2012 import without_secrets

ORIGIN = "origin.json"


def write_origin(
    folder: str, archives: dict[str, str], label_names: str, order: str, mode: str
) -> None:
    """Note what the copy in `folder` was made of, and how it was checked."""
    origin = {
        "folders": [folder_of(archives)],
        "splits": list(archives),
        "label_names": label_names,
        "order": order,
        "checked": mode != "no_checks",
        "hashed": mode == "all_checks",
    }
    with io.FileIO(f"{folder}/{ORIGIN}", "w") as file:
        file.write(json.dumps(origin).encode())


def read_origin(folder: str) -> dict[str, Any]:
    """Return what the copy in `folder` was made of.

    Returns
    -------
    dict
        ``splits``, ``label_names``, ``order``, ``checked``, ``hashed``, and ``folders`` where its
        archives were seen.

    Raises
    ------
    OSError or ValueError
        If that was not noted.
    """
    with io.FileIO(f"{folder}/{ORIGIN}") as file:
        origin = json.loads(file.read())
    if not isinstance(origin, dict):
        raise ValueError(f"{folder}/{ORIGIN} is not what was written.")
    origin.setdefault("folders", [origin.get("folder", "")])  # of an earlier release
    return origin


def note_folder(folder: str, archives: dict[str, str]) -> None:
    """Note that the archives of the copy in `folder` were seen in another folder, if they were."""
    seen = folder_of(archives)
    try:
        origin = read_origin(folder)
        made = os.stat(f"{folder}/{ORIGIN}").st_mtime_ns
        if not seen or seen in origin["folders"]:
            return
        origin["folders"].append(seen)
        unfinished = f"{folder}/{ORIGIN}.{os.getpid()}"
        with io.FileIO(unfinished, "w") as file:
            file.write(json.dumps(origin).encode())
        os.utime(unfinished, ns=(made, made))  # the newest copy is the one that was made last
        os.replace(unfinished, f"{folder}/{ORIGIN}")
    except (OSError, ValueError):
        return  # not ours to write, or made before this was noted: then it is found less easily


def folder_of(archives: dict[str, str]) -> str:
    """Return the folder of the first archive, as it may be written down."""
    return without_secrets(next(iter(archives.values()), "")).rpartition("/")[0]
