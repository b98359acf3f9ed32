"""What an image may be: three channels come out, and errors name the file."""

import io
import multiprocessing
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import datasets
import fakes
import PIL.Image
import pytest

import imagenet2012
from rows import contents

NAMES = [f"n01440764_{number}.JPEG" for number in range(1, 10)]
CONFIGS = pytest.mark.parametrize("config", ["default", "in_place"])


def load_images(folder: Path, images: list[bytes], config: str = "default") -> datasets.Dataset:
    """Load images as members of the first class."""
    members = list(zip(NAMES, images, strict=False))
    (folder / "ILSVRC2012_img_train.tar").write_bytes(fakes.train_tar({"n01440764": members}))
    return load_again(folder, config)


def load_again(folder: Path, config: str) -> datasets.Dataset:
    """Load what `load_images` has written: the first time prepared, then found in the cache."""
    options: dict[str, Any] = {"cache_dir": str(folder), "verification_mode": "no_checks"}
    return imagenet2012.load(folder, config, split="train", **options)


def broken_png() -> bytes:
    """Return a PNG whose image data claim another length: a `SyntaxError` from Pillow."""
    data = fakes.png(1)
    at = data.index(b"IDAT")
    return data[: at - 4] + (20).to_bytes(4, "big") + data[at:]


@CONFIGS
def test_every_kind_of_image_has_three_channels(config: str, tmp_path: Path) -> None:
    images = [fakes.jpeg(1, mode="CMYK"), fakes.jpeg(2, mode="L"), fakes.png(3), fakes.jpeg(4)]
    loaded = load_images(tmp_path, images, config)
    for row, data in zip(loaded, images, strict=True):
        assert row["image"].mode == "RGB"
        assert row["image"].size == PIL.Image.open(io.BytesIO(data)).size
    assert [data for _, data, _ in contents(loaded)] == images


def test_cmyk_is_converted_as_pillow_does(tmp_path: Path) -> None:
    data = fakes.jpeg(1, mode="CMYK")
    image = load_images(tmp_path, [data])[0]["image"]
    assert image.tobytes() == PIL.Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@CONFIGS
def test_exif_orientation_is_applied(config: str, tmp_path: Path) -> None:
    image = load_images(tmp_path, [fakes.rotated(5)], config)[0]["image"]
    upright = fakes.draw(5)
    assert image.size == upright.size
    difference = PIL.Image.blend(
        image.convert("L"), upright.convert("L").point(lambda v: 255 - v), 0.5
    )
    assert 120 < sum(difference.histogram()[v] * v for v in range(256)) / (96 * 72) < 135


@CONFIGS
@pytest.mark.parametrize("image", [fakes.bad_xmp(6), fakes.bad_exif(7)], ids=["xmp", "exif"])
def test_broken_metadata_do_not_stop_decoding(image: bytes, config: str, tmp_path: Path) -> None:
    for loaded in (load_images(tmp_path, [image], config), load_again(tmp_path, config)):
        decoded = loaded[0]["image"]
        assert decoded.mode == "RGB"
        assert sorted(decoded.size) == [72, 96]


@CONFIGS
@pytest.mark.parametrize(
    "image",
    [b"", b"no image", fakes.jpeg(8)[:500], broken_png()],
    ids=["empty", "text", "cut", "png"],
)
def test_an_undecodable_image_is_named(image: bytes, config: str, tmp_path: Path) -> None:
    images = [fakes.jpeg(1), image, fakes.jpeg(2)]
    for loaded in (load_images(tmp_path, images, config), load_again(tmp_path, config)):
        assert len(loaded) == 3
        assert contents(loaded)[1][1] == image
        assert loaded[2]["image"].mode == "RGB"
        with pytest.raises(OSError, match=r"n01440764_2\.JPEG"):
            loaded[1]
    stream = imagenet2012.load(tmp_path, config, split="train", streaming=True)
    with pytest.raises(OSError, match=r"n01440764_2\.JPEG"):
        list(stream)


def test_a_decompression_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_images(tmp_path, [fakes.jpeg(1)])
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PIL.Image.DecompressionBombError, match=r"n01440764_1\.JPEG"):
        loaded[0]


class Unprintable(Exception):
    """Its text does not come from its arguments, as that of several of Python's own."""

    def __str__(self) -> str:
        return "in words of its own"


ERRORS = [
    struct.error("unpack requires a buffer of 4 bytes"),
    zlib.error("Error -3 while decompressing data"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    MemoryError(),
    KeyError("RGB"),
    OSError(5, "Input/output error"),
    SyntaxError("broken PNG file", ("file", 1, 2, "text")),
    PIL.UnidentifiedImageError("cannot identify image file <_io.BytesIO object at 0x7f>"),
    Unprintable(1, 2),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_is_raised_names_the_image(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: object) -> None:
        raise error

    text = str(error).partition(" <_io")[0]
    monkeypatch.setattr(PIL.Image, "open", fail)
    with pytest.raises(Exception, match=r"n01440764_1\.JPEG: ") as caught:
        imagenet2012.decode_image(b"", "n01440764_1.JPEG")
    assert text in str(caught.value)
    assert str(caught.value).strip()[-1] != ":" and "0x7f" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert caught.value.__cause__ is not caught.value  # who follows causes comes to an end


def _decode(dataset: datasets.Dataset) -> str:
    return dataset[0]["image"].mode


@pytest.mark.parametrize("image", [b"no image", broken_png()], ids=["text", "png"])
def test_errors_name_the_image_in_a_spawned_worker_too(image: bytes, tmp_path: Path) -> None:
    loaded = load_images(tmp_path, [image])
    pool = multiprocessing.get_context("spawn").Pool(1)
    with pool, pytest.raises(OSError, match=r"n01440764_1\.JPEG: "):
        pool.apply(_decode, (loaded,))


def test_the_features_are_stored_as_plain_ones(tmp_path: Path) -> None:
    loaded = load_images(tmp_path, [fakes.jpeg(1)])
    loaded.save_to_disk(tmp_path / "saved")
    again = datasets.load_from_disk(tmp_path / "saved")
    assert type(again.features["image"]) is datasets.Image
    assert again.features == loaded.features
    assert repr(again.features["image"]) == repr(loaded.features["image"])
    assert datasets.concatenate_datasets([again, loaded]).num_rows == 2


def test_what_is_decoded_already_stays(tmp_path: Path) -> None:
    """As a function of `map` or `with_transform` may give back."""
    loaded = load_images(tmp_path, [fakes.jpeg(1)])
    image = loaded[0]["image"]
    feature = loaded.features["image"]
    assert feature.encode_example(image)["bytes"]
    assert feature.encode_example(b"bytes") == {"path": None, "bytes": b"bytes"}
    stored = {"path": None, "bytes": fakes.jpeg(1)}
    assert feature.decode_example(stored).mode == "RGB"
    mapped = loaded.map(lambda row: {"image": row["image"].rotate(90)})
    assert mapped[0]["image"].mode == "RGB"
