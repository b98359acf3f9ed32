"""Where archives lie if it is not the disk: whatever `fsspec` reads, with which options, for whom.

An archive is read with the storage options that it was loaded with. Rows in place hold none, so
those of their load are kept for them; and as a dataset may come from anybody, only hosts that the
user named are asked for what its rows say.
"""

import os
import re
import threading
from typing import Any

import fsspec

from imagenet2012.ilsvrc2012 import (
    OBJECT_STORES,
    ArchiveError,
    text_without_secrets,
    without_secrets,
)
from imagenet2012.ranges import identity
from imagenet2012.remote_archive import (
    check_rights,
    file_system_of,
    forget,
    info_of,
    is_chain,
    open_once,
    words_of,
)
from imagenet2012.storage import Archive, Status, Storage

HOSTS_VARIABLE = "IMAGENET2012_HOSTS"
# What in storage options says which store it is, unlike keys, which may change.
PLACE = re.compile("endpoint|host|url|port|account_name|protocol", re.IGNORECASE)

_now = threading.local()  # .options: those of the load at work in this thread, by place
_placed: dict[str, dict[str, Any]] = {}  # those of rows in place; in memory only: they hold secrets
_named: set[str] = set()  # places that were loaded from


def server_of(url: str) -> str:
    """Return protocol and bucket or host of a URL; a chain is a place of its own."""
    protocol, _, rest = url.partition("://")
    host = re.split("[/?#]", rest)[0]
    if protocol not in OBJECT_STORES:  # else it may be a container
        host = host.rpartition("@")[2]
    return without_secrets(url) if is_chain(url) else f"{protocol}://{host}"


def store_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return what in storage options says which store it is."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            found |= {f"{key}.{inner}": v for inner, v in store_of(value).items()}
        elif PLACE.search(key):
            found[key] = value
    return found


class RemoteStorage(Storage):
    """Whatever lies behind URLs that `fsspec` reads."""

    def status(self, path: str) -> Status | None:
        """Return the status of what is behind a URL, or None if it does not exist."""
        info = info_of(path, *file_system_of(path, _options(path)))
        if info is None:
            return None
        return Status(info.get("size") or 0, identity(info), info["type"] == "directory")

    def check_rights(self, path: str) -> None:
        """Raise `ArchiveError` if access to a URL is forbidden."""
        check_rights(path, *file_system_of(path, _options(path)))

    def entries(self, folder: str) -> list[str]:
        """Return the names in a folder, of folders with a slash."""
        files, name = file_system_of(folder, _options(folder))
        try:
            listed = files.ls(name, detail=True)
        except Exception as error:  # each file system raises its own
            raise OSError(words_of(error, folder)) from None
        return [e["name"].rpartition("/")[2] + "/" * (e["type"] == "directory") for e in listed]

    def open(self, path: str) -> Archive:
        """Open an archive as the load at work in this thread does, once in a process."""
        return open_once(path, _options(path))

    def open_placed(self, path: str) -> Archive:
        """Open an archive for rows in place, with the options that they were loaded with."""
        return open_once(path, _placed.get(server_of(path), {}))

    def forget(self, path: str) -> None:
        """Look at an archive anew when it is opened again."""
        forget(path, _options(path))

    def check_named(self, path: str) -> None:
        """Raise `ArchiveError` unless the host of a URL that a dataset names is trusted."""
        if server_of(path) in _named:
            return
        hosts = re.split(r"[,\s]+", os.environ.get(HOSTS_VARIABLE, ""))
        protocol, _, host = server_of(path).partition("://")
        if not is_chain(path) and (protocol in OBJECT_STORES or (host and host in hosts)):
            return
        advice = (
            "A URL in a dataset could lead anywhere. If you trust this host, set the environment "
            f"variable {HOSTS_VARIABLE}={host} (several with commas), or load from it yourself "
            "in this process."
        )
        problem = "is not read, as nobody but a dataset names it."
        raise ArchiveError(path, problem, advice=advice)

    def check_in_place(self, path: str) -> None:
        """Raise `ArchiveError` if an index would store a secret, or could not be used."""
        if without_secrets(path) != path:
            problem = (
                "its URL has a user, a password, a query or a fragment, which may be a secret "
                "and which the index would store."
            )
        elif is_chain(path):
            problem = "is a chain of URLs, which could lead a reader of the index anywhere."
        else:
            return self._check_same_store(path)
        advice = 'Use storage_options and a plain URL, or the "default" configuration.'
        raise ArchiveError(path, problem, advice=advice)

    def use_options(self, path: str, options: dict[str, Any]) -> None:
        """Read a URL with these storage options in this thread, and let datasets name its host.

        `datasets` has the options of each protocol under its name, and adds those of ``hf``.
        """
        protocols = fsspec.available_protocols()
        plain = {k: v for k, v in options.items() if k not in protocols or not isinstance(v, dict)}
        place = server_of(path)
        if not hasattr(_now, "options"):
            _now.options = {}
        _now.options[place] = options.get(path.partition("://")[0], plain)
        if place in _named:
            return
        _named.add(place)
        protocol, _, host = place.partition("://")
        if protocol not in OBJECT_STORES and not is_chain(path):
            # Also for the processes that this one starts, such as the workers of a `DataLoader`.
            hosts = os.environ.get(HOSTS_VARIABLE)
            os.environ[HOSTS_VARIABLE] = f"{hosts},{host}" if hosts else host

    def keep_options(self, path: str) -> None:
        """Read rows in place with the options of this load; see `open_placed`."""
        self._check_same_store(path)
        _placed[server_of(path)] = _options(path)  # of the same store: a new key, perhaps

    def _check_same_store(self, path: str) -> None:
        """Raise `ArchiveError` if rows of this process rely on another store of that name."""
        place = server_of(path)
        others, these = (store_of(o) for o in (_placed.get(place, _options(path)), _options(path)))
        if others != these:
            problem = (
                f"rows in place of {place} were loaded in this process from another store "
                f"({others or 'the default one'}). Rows hold no storage_options, so they would be "
                f"read from this one ({these or 'the default one'})."
            )
            advice = 'Use another process, or streaming or the "default" configuration for one.'
            raise ArchiveError(path, text_without_secrets(problem), advice=advice)


def _options(url: str) -> dict[str, Any]:
    return getattr(_now, "options", {}).get(server_of(url), {})


storage = RemoteStorage()
