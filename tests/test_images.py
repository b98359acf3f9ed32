"""What an image may be: three channels come out, upright, and errors name the file."""

import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import datasets
import fakes
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imagenet2012
from rows import contents

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONFIGS = pytest.mark.parametrize("config", ["default", "in_place"])


def load(folder: Path, config: str = "default", **options: Any) -> Any:
    options = {"cache_dir": str(folder), "verification_mode": "no_checks", **options}
    return imagenet2012.load(folder, config, split="train", **options)


def load_images(folder: Path, images: list[bytes], config: str = "default") -> datasets.Dataset:
    """Load images as members of the first class."""
    members = [(f"n01440764_{number}.JPEG", data) for number, data in enumerate(images, 1)]
    (folder / "ILSVRC2012_img_train.tar").write_bytes(fakes.train_tar({"n01440764": members}))
    return load(folder, config)


def broken_png() -> bytes:
    """Return a PNG whose image data claim another length: a `SyntaxError` from Pillow."""
    data = fakes.png(1)
    at = data.index(b"IDAT")
    return data[: at - 4] + (20).to_bytes(4, "big") + data[at:]


@CONFIGS
@pytest.mark.parametrize(
    "image",
    [b"", b"no image", fakes.jpeg(8)[:500], broken_png()],
    ids=["empty", "text", "cut", "png"],
)
def test_an_undecodable_image_is_named(image: bytes, config: str, tmp_path: Path) -> None:
    images = [fakes.jpeg(1), image, fakes.jpeg(2)]
    for loaded in (load_images(tmp_path, images, config), load(tmp_path, config)):
        assert contents(loaded)[1][1] == image
        assert loaded[2]["image"].mode == "RGB"
        with pytest.raises(OSError, match=r"n01440764_2\.JPEG"):
            loaded[1]
    with pytest.raises(OSError, match=r"n01440764_2\.JPEG"):
        list(load(tmp_path, config, streaming=True))


ERRORS = [
    struct.error("unpack requires a buffer of 4 bytes"),
    zlib.error("Error -3 while decompressing data"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    MemoryError(),
    KeyError("RGB"),
    OSError(5, "Input/output error"),
    SyntaxError("broken PNG file", ("file", 1, 2, "text")),
    PIL.Image.DecompressionBombError("decompression bomb DOS attack"),
    PIL.UnidentifiedImageError("cannot identify image file <_io.BytesIO object at 0x7f>"),
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


# ------------------------------------------------------------------------- metadata

# Whatever they are, an image is decoded if plain Pillow decodes it, and turned if it can be:
# https://pillow.readthedocs.io/en/stable/reference/ImageOps.html#PIL.ImageOps.exif_transpose

SHORT, LONG, ASCII, RATIONAL = 3, 4, 2, 5
X_RESOLUTION, UNIT, ORIENTATION, DATE, EXIF_IFD, GPS = 0x11A, 0x128, 0x112, 0x132, 0x8769, 0x8825
SIX = (ORIENTATION, SHORT, 1, b"\6\0")
AT_100 = struct.pack("<I", 100)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def jpeg(*payloads: bytes) -> bytes:
    data = fakes.jpeg(1)
    for payload in payloads:
        data = fakes.with_segment(data, payload)
    return data


def raw_profile(block: bytes) -> bytes:
    """Return EXIF as ImageMagick writes it into a PNG."""
    text = b"\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    return b"Raw profile type exif\0\0" + zlib.compress(text)


ASCII_RESOLUTION = fakes.exif(SIX, (X_RESOLUTION, ASCII, 7, AT_100), after=b"72 dpi\0")
# Each says how it stands; most of the others fail when Pillow writes the block anew.
TURNED = {
    "ordinary": jpeg(fakes.exif(SIX)),
    # TypeError in exif_transpose of Pillow 13, ValueError in earlier ones
    "resolution as text": jpeg(ASCII_RESOLUTION),
    # struct.error: 2 bytes are meant for it
    "unit of 32 bits": jpeg(fakes.exif(SIX, (UNIT, LONG, 1, b"\xff" * 4))),
    # ZeroDivisionError in Pillow 11.0
    "rational 0/0": jpeg(fakes.exif(SIX, (X_RESOLUTION, RATIONAL, 1, AT_100), after=bytes(8))),
    "rational 1/0": jpeg(
        fakes.exif(SIX, (X_RESOLUTION, RATIONAL, 1, AT_100), after=b"\1" + bytes(7))
    ),
    "offset of text": jpeg(fakes.exif(SIX, (GPS, ASCII, 4, b"abc\0"))),
    "offset of nowhere": jpeg(fakes.exif(SIX, (EXIF_IFD, LONG, 1, b"\xff" * 4))),
    "offset of itself": jpeg(fakes.exif(SIX, (EXIF_IFD, LONG, 1, b"\x08\0\0\0"))),
    "value of nowhere": jpeg(fakes.exif(SIX, (DATE, ASCII, 20, b"\xff" * 4))),
    "cut off": jpeg(fakes.exif(SIX, (DATE, ASCII, 20, AT_100))[:30]),
    "two values": jpeg(fakes.exif((ORIENTATION, SHORT, 2, b"\6\0\3\0"))),
    "gray": fakes.with_segment(fakes.jpeg(1, mode="L"), ASCII_RESOLUTION),
    "cmyk": fakes.with_segment(fakes.jpeg(1, mode="CMYK"), ASCII_RESOLUTION),
    "png": fakes.with_chunk(fakes.png(1), b"eXIf", fakes.exif(SIX)[6:]),
    "png, resolution": fakes.with_chunk(fakes.png(1), b"eXIf", ASCII_RESOLUTION[6:]),
    "png, raw profile": fakes.with_chunk(fakes.png(1), b"zTXt", raw_profile(ASCII_RESOLUTION)),
    "png, xmp": fakes.with_chunk(fakes.png(1), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
}
UNTURNED = {
    "none": jpeg(),
    "1": jpeg(fakes.exif((ORIENTATION, SHORT, 1, b"\1\0"))),
    "0": jpeg(fakes.exif((ORIENTATION, SHORT, 1, b"\0\0"))),
    "9": jpeg(fakes.exif((ORIENTATION, SHORT, 1, b"\x09\0"))),
    "text": jpeg(fakes.exif((ORIENTATION, ASCII, 2, b"6\0"))),
    "garbage": fakes.bad_exif(1),
    "empty": jpeg(b"Exif\0\0"),
    "bad xmp": fakes.bad_xmp(1),
    "raw profile of no numbers": fakes.with_chunk(
        fakes.png(1), b"tEXt", b"Raw profile type exif\0\nexif\n 4\nnone"
    ),
    "adobe": fakes.jpeg(1)[:2] + b"\xff\xee\0\x0eAdobe\0" + b"\xff" * 6 + fakes.jpeg(1)[2:],
}


def same(one: PIL.Image.Image, other: PIL.Image.Image) -> bool:
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("name", [*TURNED, *UNTURNED])
def test_it_is_turned_if_its_metadata_say_so_whatever_else_they_hold(name: str) -> None:
    data = {**TURNED, **UNTURNED}[name]
    decoded, plain = imagenet2012.decode_image(data), PIL.Image.open(io.BytesIO(data))
    expected = plain.convert("RGB")
    if name in TURNED:
        expected = expected.transpose(PIL.Image.Transpose.ROTATE_270)
        assert same(PIL.ImageOps.exif_transpose(decoded), decoded), "it says so no more"
    assert same(decoded, expected)


@CONFIGS
@pytest.mark.parametrize("streaming", [False, True])
def test_every_way_of_reading_decodes_it(streaming: bool, config: str, tmp_path: Path) -> None:
    load_images(tmp_path, [*TURNED.values(), *UNTURNED.values()], config)
    loaded = load(tmp_path, config, streaming=streaming)
    images = {int(row["file_name"][10:-5]): row["image"] for row in loaded}
    sizes = [(72, 96)] * len(TURNED) + [(96, 72)] * len(UNTURNED)
    found = [(images[number].size, images[number].mode) for number in sorted(images)]
    assert found == [(size, "RGB") for size in sizes]


KINDS = st.one_of(st.integers(0, 18), st.integers(0, 65535))
TAGS = st.sampled_from([X_RESOLUTION, UNIT, ORIENTATION, DATE, EXIF_IFD, GPS, 0x103, 0x201, 0x9C9B])
COUNTS = st.sampled_from([0, 1, 2, 7, 1 << 16, (1 << 32) - 1])
ENTRIES = st.lists(st.tuples(TAGS, KINDS, COUNTS, st.binary(min_size=4, max_size=4)), max_size=5)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(ENTRIES, st.sampled_from([(), (SIX,)]), st.binary(max_size=40), st.integers(8, 200))
def test_any_metadata(entries: list, six: tuple, after: bytes, end: int) -> None:
    block = fakes.exif(*six, *entries, after=after)[:end]
    data = jpeg(block)
    try:  # Pillow does not open a JPEG with a resolution of no numbers
        PIL.Image.open(io.BytesIO(data))
    except PIL.UnidentifiedImageError:
        return
    decoded = imagenet2012.decode_image(data)
    try:
        transposed = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    except Exception:
        return
    assert same(decoded, transposed.convert("RGB"))
