"""Images that stay in the archives: the file system that reads them, and how they are decoded."""

import dataclasses
import errno
import functools
import io
import itertools
import operator
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, unquote

import datasets
import fsspec
import PIL.Image
import PIL.ImageOps

from .archives import FOLDER_VARIABLE, absolute
from .ilsvrc2012 import IMAGE_NAME, SOURCES, ArchiveError
from .in_turns import begun_ahead
from .storage import (
    BLOCK,
    MAX_IMAGE_BYTES,
    Archive,
    announce_file,
    is_url,
    open_archive,
    read_file,
    status_of,
    storage_of,
)
from .tar_reader import REGULAR, Member, read_header
from .tree_listing import File, in_threads

PREFIX = "imagenet2012://"
# Larger images are rare: of these the header is read first, so that a forged size is found out
# before so much is read.
LARGE_IMAGE = 1 << 20

# The bytes of a path need not be UTF-8.
_quoted = functools.lru_cache(maxsize=8)(
    functools.partial(quote, safe="", errors="surrogateescape")
)
_unquoted = functools.lru_cache(maxsize=8)(functools.partial(unquote, errors="surrogateescape"))


class MemberFile(io.BytesIO):
    """The bytes of an image; unlike its parent it takes attributes, which `datasets` sets."""


class Imagenet2012FileSystem(fsspec.AbstractFileSystem):
    """Read-only `fsspec` file system of the images in the archives.

    A URL is ``imagenet2012://<path of the archive>/<offset>-<size>/<file name>`` with the absolute
    path quoted. At the offset is a tar header, and the image's bytes follow it. They are refused
    unless the header names the same file and size. So all that such a URL can read is what a tar
    presents as an image of ILSVRC2012.

    Instead of a path there may be the bare name of an original archive, so that the URL holds on
    all machines: see `open_named`.
    """

    protocol = "imagenet2012"
    _URL = re.compile(rf"([^/]+)/(\d+)-(\d+)/({IMAGE_NAME.pattern})")

    @staticmethod
    def url(path: str, member: Member) -> str:
        """Return the URL of a member of the archive at the absolute `path`."""
        return f"{PREFIX}{_quoted(path)}/{member.header}-{member.size}/{member.name}"

    @classmethod
    def parse(cls, url: str) -> tuple[str, int, int, str]:
        """Return the parts of a URL: path of the archive, offset, size, file name.

        Raises
        ------
        FileNotFoundError
            If it is no such URL.
        ArchiveError
            If the archive is behind a URL that may not be read only because a dataset names it.
        """
        if not (match := cls._URL.fullmatch(url.removeprefix(PREFIX))):
            raise FileNotFoundError(
                errno.ENOENT, "not the URL of an image in an ILSVRC2012 archive", url
            )
        path, header, size, name = match.groups()
        path = _unquoted(path)
        storage_of(path).check_named(path)
        return path, int(header), int(size), name

    @classmethod
    def read_image(cls, url: str) -> bytes:
        """Return an image's bytes.

        Raises
        ------
        ArchiveError
            If the archive cannot be read, or is not the one that the URL was made from.
        """
        path, offset, size, name = cls.parse(url)
        archive = open_named(path)
        fits = _fits(archive, offset, size)
        if fits and size > LARGE_IMAGE:
            fits = _is_header_of(archive.read(offset, BLOCK), name, size)
        if fits:
            block, data = archive.read_member(offset, size)
            if _is_header_of(block, name, size):
                return data
        advice = (
            "The archive was replaced, cut or damaged since the dataset was made. If it is right "
            "now, load it again from its folder; a folder of shards must be prepared again."
        )
        raise ArchiveError(archive.path, f"{name} ({size:,} bytes) is not here.", offset, advice)

    @classmethod
    def announce(cls, url: str) -> None:
        """Let the kernel fetch an image that will be read soon; what is wrong, the reading says."""
        try:
            path, offset, size, _ = cls.parse(url)
            archive = open_named(path)
        except (OSError, ValueError, ArchiveError):
            return
        if size <= LARGE_IMAGE and _fits(archive, offset, size):
            archive.announce(offset, BLOCK + size)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return an image's bytes, or some of them, from the end if negative; see `read_image`."""
        data = self.read_image(path)
        return data[start:end] if start or end is not None else data

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """Open an image; what else the parent's method prepares costs as much as the reading."""
        return self._open(path) if mode == "rb" else super().open(path, mode, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> MemberFile:
        if mode != "rb":
            raise ValueError(f"the archives are only ever read, not opened with mode {mode!r}")
        return MemberFile(self.read_image(path))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size and type of an image, from its URL alone."""
        path = self._strip_protocol(path)
        return {"name": path, "size": self.parse(path)[2], "type": "file"}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return the file itself: there are no folders to list."""
        return [self.info(path)] if detail else [self.info(path)["name"]]


def open_named(path: str) -> Archive:
    """Open the archive that a URL of an image in place names, once in a process.

    At an absolute path nothing but that file is opened, if it exists. If not, and for a bare name,
    it is the file of that name directly in the folder that ``IMAGENET2012_DIR`` names. There only
    names of original archives are looked for (`Source.file_names`), so that a dataset of somebody
    else can lead to no other file of that folder.

    Raises
    ------
    ArchiveError
        If it cannot be opened. Says what to set.
    """
    if is_url(path):
        return storage_of(path).open_placed(path)
    if not os.path.isabs(path):
        return _open_in_folder(path, None)
    try:
        return open_archive(path)
    except ArchiveError as error:
        if status_of(path):  # it exists: something else is wrong with it
            raise
        return _open_in_folder(path, error)


# By each name of an original archive all its names, itself first: the test archive has two.
_NAMES = {
    name: (name, *({*source.file_names} - {name}))
    for source in SOURCES.values()
    for name in source.file_names
}


def _open_in_folder(path: str, error: ArchiveError | None) -> Archive:
    """Open what has the file name of `path` in the user's folder; `error` is why not at `path`."""
    folder = os.environ.get(FOLDER_VARIABLE)
    name = path.rpartition("/")[2]
    for other in _NAMES.get(name, ()) if folder else ():
        found = f"{absolute(folder or '')}/{other}"
        try:
            return storage_of(found).open_placed(found)
        except ArchiveError:
            if status_of(found):
                raise
    if name not in _NAMES:
        problem = "is neither an absolute path nor the name of an archive of ILSVRC2012."
        raise error or ArchiveError(path, problem, advice=f"Known are {', '.join(_NAMES)}.")
    set_it = f"set {FOLDER_VARIABLE} to the folder that holds {name}, before the program starts."
    tried = f"{folder}, the folder that {FOLDER_VARIABLE} names" if folder else ""
    problem = f"is not in {tried or f'a folder that is known: {FOLDER_VARIABLE} is not set'}."
    if error:
        tried = tried and f" It is not in {tried}, either."
        raise ArchiveError(path, error.problem, None, f"{error.advice}{tried} Or {set_it}")
    raise ArchiveError(path, problem, advice=f"{set_it[0].upper()}{set_it[1:]}")


def _is_header_of(block: bytes, name: str, size: int) -> bool:
    header = read_header(block)
    if header is None or header.kind not in REGULAR:
        return False
    return (header.name, header.size) == (name, size)


def _fits(archive: Archive, offset: int, size: int) -> bool:
    """Tell whether an archive has room for an image of this size after the header at `offset`."""
    return size <= MAX_IMAGE_BYTES and offset + BLOCK + size <= archive.size


def missing_images(paths: Sequence[str]) -> Iterator[str]:
    """Yield the names of images in place that are not where rows say, by headers and files."""
    urls = [path for path in paths if path.startswith(PREFIX)]
    files = [path for path in paths if not path.startswith(PREFIX)]
    for file, exists in zip(files, in_threads(os.path.exists, files), strict=True):
        if not exists:
            yield file
    places = sorted(map(Imagenet2012FileSystem.parse, urls))
    for path, chosen in itertools.groupby(places, operator.itemgetter(0)):
        yield from _missing_members(open_named(path), list(chosen))


def _missing_members(archive: Archive, places: list[tuple[str, int, int, str]]) -> Iterator[str]:
    archive.advise("RANDOM")

    def announced_header(place: tuple[str, int, int, str]) -> tuple[str, int, int, str]:
        archive.announce(place[1], BLOCK)
        return place

    for _, offset, size, name in begun_ahead(map(announced_header, places)):
        fits = _fits(archive, offset, size)
        if not (fits and _is_header_of(archive.read(offset, BLOCK), name, size)):
            yield name


def read_place(path: str) -> bytes:
    """Return the bytes of an image that stays where a row says it is: a URL or a file's path."""
    return Imagenet2012FileSystem.read_image(path) if path.startswith(PREFIX) else read_file(path)


def place_of(archive: Any, member: Member | File) -> str:
    """Return the path of an image in a file of its own, or the URL by which it can be read.

    Raises
    ------
    ArchiveError
        If the header directly before the data does not hold name and size, so that it could not be
        proven: that of a long name stands in an extension header.
    """
    if isinstance(member, File):
        return member.path
    if member.header != member.start:
        header = read_header(archive.read(member.header, BLOCK))
        kept = (member.name, member.kind, member.size)
        if header is None or (header.name, header.kind, header.size) != kept:
            problem = f"{member.name!r} has a name or size that only extension headers hold."
            advice = 'Use the "default" configuration, or pack the archive with shorter folders.'
            raise ArchiveError(archive.path, problem, member.start, advice)
    return Imagenet2012FileSystem.url(archive.path, member)


# ------------------------------------------------------------------------- decoding

ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
# Pillow names a file in memory, which says nothing, and is another one at each run.
_OBJECT = re.compile(r" <_io\.BytesIO object at 0x[0-9a-fA-F]+>")
METADATA = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")


def decode_image(data: bytes, name: str = "", mode: str | None = "RGB") -> PIL.Image.Image:
    """Decode an image as the dataset does: three channels, upright if EXIF says what is up.

    Whatever its metadata are, an image is decoded if Pillow can decode it.

    Parameters
    ----------
    data : bytes
        Of a JPEG or PNG.
    name : str
        For errors: what the image is called.
    mode : str or None
        Mode of Pillow; None leaves the image's own.

    Raises
    ------
    OSError
        If it cannot be decoded, and whatever else Pillow raises; the message names the image.
    """
    try:
        image: PIL.Image.Image = PIL.Image.open(io.BytesIO(data))
        image.load()
        image = upright(image)
        return image.convert(mode) if mode and image.mode != mode else image
    except Exception as error:
        named = naming(error, name)
        if named is error:
            raise
        raise named from error


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """Turn an image as its EXIF orientation says; leave it as it is if that cannot be read."""
    try:
        orientation = image.getexif().get(ORIENTATION)
        if orientation not in TURNS:
            return image
    except Exception:  # broken metadata have many ways to fail, and pixels do not depend on them
        return image
    try:
        return PIL.ImageOps.exif_transpose(image)
    except Exception:  # it writes the metadata anew, which odd ones do not survive
        turned = image.transpose(TURNS[orientation])
        for key in METADATA:  # else it could be turned twice
            turned.info.pop(key, None)
        return turned


def naming(error: Exception, name: str) -> Exception:
    """Return the same error with the image's name in its message, or an `OSError` that has it."""
    text = _OBJECT.sub("", str(error)) or type(error).__name__  # a `MemoryError` has no text
    if not name or name in text:
        return error
    arguments, message = error.args, f"{name}: {text}"
    error.args = (message,)
    if str(error) == message:
        return error
    # Some errors make their text of something else, as `SyntaxError` and `UnicodeDecodeError` do.
    error.args = arguments
    return OSError(f"{name}: {type(error).__name__}: {text}")


@dataclasses.dataclass(eq=False, repr=False)
class NamedImage(datasets.Image):
    """`datasets.Image`, but metadata do not matter, and an error says which image it is about.

    It is stored as `datasets.Image`, so a dataset that is read back elsewhere has that instead.
    """

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> PIL.Image.Image:
        """Decode as `datasets.Image` does."""
        if not self.decode or not isinstance(value, dict):
            return super().decode_example(value, token_per_repo_id=token_per_repo_id)
        path, data = value["path"], value["bytes"]
        if data is None and path and (path.startswith(PREFIX) or not is_url(path)):
            # `datasets` would look at the URL in many ways before it opens it, a tenth of the time.
            data = read_place(path)
        if data is None:
            return super().decode_example(value, token_per_repo_id=token_per_repo_id)
        return decode_image(data, path or "", self.mode)

    def __eq__(self, other: object) -> bool:
        """Be equal to the `datasets.Image` that it is stored as."""
        if not isinstance(other, datasets.Image):
            return NotImplemented
        return (self.mode, self.decode) == (other.mode, other.decode)

    def __repr__(self) -> str:
        """Look like the `datasets.Image` that it is stored as."""
        return f"Image(mode={self.mode!r}, decode={self.decode!r})"


# ------------------------------------------------------------------------- batches of images

ANNOUNCED_IMAGES = 64  # that are under way while one is decoded


def announced(images: Iterable[Any]) -> Iterator[Any]:
    """Yield images as they are stored, those in place announced while others are decoded."""
    return begun_ahead(map(_announce, images), ANNOUNCED_IMAGES)


def _announce(value: Any) -> Any:
    path = value["path"] if isinstance(value, dict) and value["bytes"] is None else None
    if path and path.startswith(PREFIX):
        Imagenet2012FileSystem.announce(path)
    elif path and not is_url(path):
        announce_file(path)
    return value


def read_images(images: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the bytes of images that are not decoded, from their rows or from where these say.

    Those that stay in the archives are under way while others are used.

    Parameters
    ----------
    images : iterable of dict
        With ``bytes`` and ``path``, as a column that is cast to ``Image(decode=False)`` has them.

    Raises
    ------
    ArchiveError
        If an archive cannot be read, or is not the one that the dataset was made from.
    """
    for image in announced(images):
        yield read_place(image["path"]) if image["bytes"] is None else image["bytes"]


class StoredImage(dict[str, Any]):
    """An image of a stream as it would be stored: nothing is left to encode."""


class RowFeatures(datasets.Features):
    """`datasets.Features` for the rows of this loader, in streams and in place.

    They announce the images of a batch before they are decoded, and take the rows of a stream as
    they are: to encode one takes `datasets` 35 us, a third of the time of a stream from memory that
    is not decoded. They are stored as `datasets.Features`: a dataset that is read back has those.
    """

    def encode_example(self, example: dict[str, Any]) -> dict[str, Any]:
        """Encode as `datasets.Features` do."""
        image, label = self.get("image"), self.get("label")
        known = isinstance(image, datasets.Image) and isinstance(label, datasets.ClassLabel)
        if known and type(example.get("image")) is StoredImage and len(self) == len(example):
            return example
        return super().encode_example(example)

    def decode_batch(self, batch: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Decode a batch as `datasets.Features` do."""
        coming = {name: self._coming(column, name) for name, column in batch.items()}
        return super().decode_batch(coming, *args, **kwargs)

    def decode_column(self, column: Any, column_name: str, *args: Any, **kwargs: Any) -> Any:
        """Decode a column as `datasets.Features` do."""
        return super().decode_column(
            self._coming(column, column_name), column_name, *args, **kwargs
        )

    def _coming(self, column: Any, name: str) -> Any:
        feature = self.get(name)  # what is not decoded may never be read
        is_read = isinstance(feature, datasets.Image) and feature.decode
        return announced(column) if is_read else column

    def __reduce__(self) -> Any:
        """Stay of this class when copied: the parent's method names the parent."""
        return type(self), (dict(self),)


class RowInfo(datasets.DatasetInfo):
    """`datasets.DatasetInfo` whose features are `RowFeatures`.

    `datasets` makes features anew when columns are selected, renamed or put in another order.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute."""
        if name == "features" and type(value) is datasets.Features:
            value = RowFeatures(value)
        super().__setattr__(name, value)


fsspec.register_implementation("imagenet2012", Imagenet2012FileSystem, clobber=True)
