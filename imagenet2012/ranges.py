"""A range of an object by one request, which holds the object's identity where its store can."""

import errno
from collections.abc import Callable
from typing import Any

from fsspec.asyn import sync

# What stores call an object's identity, without hyphens and underscores. The first are about its
# content; times are less sure, as two changes can be of one second.
IDENTITIES = (
    *("etag", "md5hash", "contentmd5", "md5", "sha256", "xethash", "checksum", "contenthash"),
    *("generation", "versionid", "digest", "blobid", "sha", "crc32c", "crc"),
    *("lastmodified", "updated", "mtime", "modified", "modificationtime", "lastwritetime"),
    *("servermodified", "modify", "created"),
)
# Seconds without a byte. Storage options can say otherwise: ``client_kwargs={"timeout": …}`` for
# HTTP, ``config_kwargs={"read_timeout": …}`` for S3, whose default is 15.
CONNECT_SECONDS, SILENT_SECONDS = 10, 30
Fetch = Callable[[int, int], bytes]


class Replaced(Exception):
    """The object is not the one that was opened."""


class Unranged(Exception):
    """The server sends something else than the range that was asked for."""


def identity(info: dict[str, Any]) -> str:
    """Return the best identity that a file system gives of an object, or nothing.

    A weak ETag only means that a page looks the same, so it counts together with the time.
    """
    told = {key.lower().replace("-", "").replace("_", ""): value for key, value in info.items()}
    found = [str(told[key]) for key in IDENTITIES if told.get(key)]
    return " ".join(found) if found and found[0].startswith("W/") else "".join(found[:1])


def is_http(files: Any) -> bool:
    """Tell whether a file system is that of HTTP, or made of it."""
    # By name, as to import it needs a package that is not among the dependencies.
    return any(base.__name__ == "HTTPFileSystem" for base in type(files).__mro__)


def fetcher(files: Any, name: str, info: dict[str, Any]) -> tuple[Fetch, bool]:
    """Return what fetches the bytes `start` to `stop`, and whether it proves whose they are.

    It raises `Replaced`, `Unranged`, and whatever the file system does.
    """
    if is_http(files):
        held = any(info.get(key) for key in ("ETag", "Last-Modified"))
        return lambda start, stop: sync(files.loop, _http, files, name, start, stop, info), held
    if hasattr(files, "_call_s3") and info.get("ETag"):
        return lambda start, stop: sync(files.loop, _s3, files, name, start, stop, info), True
    return lambda start, stop: files.cat_file(name, start=start, end=stop), False


async def _http(files: Any, name: str, start: int, stop: int, info: dict[str, Any]) -> bytes:
    """Ask for a range by HTTP. `fsspec` would take a whole object for it, whatever its size."""
    session = await files.set_session()
    options = _http_options(files, start, stop, info)
    async with session.get(files.encode_url(name), **options) as answer:
        _check_answer(answer, start, stop, info)
        data = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            data += chunk
            if len(data) > stop - start:
                raise EOFError("more bytes arrived than asked for")
        return bytes(data)


def _http_options(files: Any, start: int, stop: int, info: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a request, with those of the user."""
    import aiohttp

    options = {**files.kwargs}
    if "timeout" not in files.client_kwargs:
        wait = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
        )
        options = {"timeout": wait, **options}
    ours = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    options["headers"] = {**options.get("headers", {}), **ours, **_condition(info)}
    return options


def _check_answer(answer: Any, start: int, stop: int, info: dict[str, Any]) -> None:
    """Raise an error for an answer that is not this range of this object, before it is read."""
    if answer.status == 412:
        raise Replaced
    answer.raise_for_status()
    for key in ("ETag", "Last-Modified"):
        if info.get(key) and answer.headers.get(key, info[key]) != info[key]:
            raise Replaced
    place, _, total = answer.headers.get("Content-Range", "").partition("/")
    if answer.status != 206 and (start, stop) != (0, info["size"]):
        raise Unranged  # not read: leaving closes the connection
    if total.isdigit() and int(total) != info["size"]:
        raise Replaced
    if place and place.lower() != f"bytes {start}-{stop - 1}":
        raise EOFError(f"{place!r} arrived")


def _condition(info: dict[str, Any]) -> dict[str, str]:
    """Return the header by which a server refuses to send another object."""
    if info.get("ETag") and not info["ETag"].startswith("W/"):
        return {"If-Match": info["ETag"]}
    if info.get("Last-Modified"):
        return {"If-Unmodified-Since": info["Last-Modified"]}
    return {}


async def _s3(files: Any, name: str, start: int, stop: int, info: dict[str, Any]) -> bytes:
    """Ask S3 for a range of this very object, which the public methods of `s3fs` cannot."""
    bucket, key, version = files.split_path(name)
    held = {"VersionId": version} if version else {"IfMatch": info["ETag"]}
    asked = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{stop - 1}", **held}
    try:
        answer = await files._call_s3("get_object", **asked)
    except OSError as error:
        if error.errno == errno.EINVAL:  # precondition failed, or no such range any more
            raise Replaced from None
        raise
    try:
        if answer.get("ETag", info["ETag"]) != info["ETag"]:
            raise Replaced
        if answer["ContentLength"] > stop - start:
            raise Unranged
        return await answer["Body"].read()
    finally:
        answer["Body"].close()
