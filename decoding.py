"""Decoding: three channels, upright, an error that names the image, a batch announced."""

import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import PIL.Image
import PIL.ImageOps

from .in_place import PREFIX, announce_place, read_place
from .storage import ahead, is_url

METADATA = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
# Pillow names a file in memory, which says nothing, and is another one at each run.
_OBJECT = re.compile(r" <_io\.BytesIO object at 0x[0-9a-fA-F]+>")


def decode_image(data: bytes, name: str = "", mode: str | None = "RGB") -> PIL.Image.Image:
    """Decode an image as the dataset does: three channels, upright if EXIF says what is up.

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
        If Pillow cannot decode it, whatever its metadata are, and what else Pillow raises; the
        message names the image.
    """
    try:
        image: PIL.Image.Image = PIL.Image.open(io.BytesIO(data))
        image.load()
        try:
            PIL.ImageOps.exif_transpose(image, in_place=True)
        except Exception:  # broken metadata have many ways to fail, but the pixels are right by now
            for key in METADATA:  # else it could be turned twice
                image.info.pop(key, None)
        return image.convert(mode) if mode and image.mode != mode else image
    except Exception as error:
        text = _OBJECT.sub("", str(error)) or type(error).__name__  # a `MemoryError` has no text
        error.args = (f"{name}: {text}" if name else text,)
        if name in str(error):
            raise
        # Some make their text of something else, as other `OSError` and `UnicodeDecodeError` do.
        raise OSError(f"{name}: {type(error).__name__}: {text}") from error


# ------------------------------------------------------------------------- batches of images


def announce_image(image: Any) -> None:
    """Let an image be fetched, as it is stored, if it stays in the archives."""
    if isinstance(image, dict) and image["bytes"] is None and image["path"]:
        announce_place(image["path"])


def read_images(images: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the bytes of images that are not decoded, from their rows or from where these say.

    `images` are as a column has them that is cast to ``Image(decode=False)``. Those that stay in
    the archives are under way while others are used. Raises `ArchiveError` if an archive cannot be
    read, or is not the one that the dataset was made from.
    """
    for image in ahead(images, announce_image):
        yield read_place(image["path"]) if image["bytes"] is None else image["bytes"]


# ------------------------------------------------------------------------- features


class NamedImage(datasets.Image):
    """`datasets.Image`, but metadata do not matter, and an error says which image it is about.

    It is stored as `datasets.Image`, so a dataset that is read back elsewhere has that instead.
    """

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> PIL.Image.Image:
        """Decode as `datasets.Image` does."""
        path, data = value["path"], value["bytes"]
        is_elsewhere = not path or (is_url(path) and not path.startswith(PREFIX))
        if not self.decode or (data is None and is_elsewhere):
            return super().decode_example(value, token_per_repo_id=token_per_repo_id)
        # `datasets` would look at the URL in many ways before it opens it, a tenth of the time.
        return decode_image(read_place(path) if data is None else data, path or "", self.mode)

    def __eq__(self, other: object) -> bool:
        """Be equal to the `datasets.Image` that it is stored as."""
        if not isinstance(other, datasets.Image):
            return NotImplemented
        return (self.mode, self.decode) == (other.mode, other.decode)

    def __repr__(self) -> str:
        """Look like the `datasets.Image` that it is stored as."""
        return f"Image(mode={self.mode!r}, decode={self.decode!r})"


class StoredImage(dict[str, Any]):
    """An image of a stream as it would be stored: nothing is left to encode."""


class RowFeatures(datasets.Features):
    """`datasets.Features` that announce a batch, and take the rows of a stream as they are.

    Only the features as a whole see a batch before its images are decoded one by one: 1 ms away
    that makes a `DataLoader` a third faster. To encode a row of a stream again would take a third
    of the time of one that is not decoded. A dataset that is read back has `datasets.Features`.
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
        """Decode a column, as a batched `map` asks for it, as `datasets.Features` do."""
        coming = self._coming(column, column_name)
        return super().decode_column(coming, column_name, *args, **kwargs)

    def _coming(self, column: Any, name: str) -> Any:
        feature = self.get(name)
        is_read = isinstance(feature, datasets.Image) and feature.decode  # else it may never be
        return ahead(column, announce_image) if is_read else column

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
