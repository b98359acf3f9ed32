"""Whatever its metadata are, an image is decoded if plain Pillow decodes it, and turned if it can.

https://pillow.readthedocs.io/en/stable/reference/ImageOps.html#PIL.ImageOps.exif_transpose
"""

import io
import struct
import zlib
from pathlib import Path

import fakes
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from datasets import Image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imagenet2012.in_place import NamedImage, upright

import imagenet2012
from imagenet2012.export import resized

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
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


def plain(data: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(data)).convert("RGB")


def same(one: PIL.Image.Image, other: PIL.Image.Image) -> bool:
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.loading
@pytest.mark.parametrize("name", TURNED)
def test_it_is_turned_whatever_else_its_metadata_hold(name: str) -> None:
    decoded = imagenet2012.decode_image(TURNED[name])
    assert same(decoded, plain(TURNED[name]).transpose(PIL.Image.Transpose.ROTATE_270))
    assert same(upright(decoded), decoded)  # it does not say so any more


@pytest.mark.loading
@pytest.mark.parametrize("name", UNTURNED)
def test_it_stays_as_it_is_if_nothing_says_what_is_up(name: str) -> None:
    assert same(imagenet2012.decode_image(UNTURNED[name]), plain(UNTURNED[name]))


@pytest.mark.parametrize("orientation", range(10))
def test_ordinary_metadata_mean_what_they_mean_to_datasets(orientation: int) -> None:
    data = jpeg(fakes.exif((ORIENTATION, SHORT, 1, bytes([orientation, 0]))))
    for mode in ("RGB", None):
        stored = {"bytes": data, "path": None}
        one, other = (f(mode=mode).decode_example(stored) for f in (NamedImage, Image))
        assert same(one, other) and one.getexif() == other.getexif()


@pytest.mark.parametrize("config", ["default", "in_place", "streaming"])
def test_every_way_of_reading_decodes_it(config: str, tmp_path: Path) -> None:
    images = [*TURNED.values(), *UNTURNED.values()]
    members = [(f"n01440764_{number}.JPEG", data) for number, data in enumerate(images)]
    archive = tmp_path / "ILSVRC2012_img_train.tar"
    archive.write_bytes(fakes.train_tar({"n01440764": members}))
    if config == "streaming":
        loaded = imagenet2012.load(tmp_path, split="train", streaming=True)
    else:
        options = {"cache_dir": str(tmp_path), "verification_mode": "no_checks"}
        loaded = imagenet2012.load(tmp_path, config, split="train", **options)
    sizes = {row["file_name"]: row["image"].size for row in loaded}
    assert list(sizes.values()) == [(72, 96)] * len(TURNED) + [(96, 72)] * len(UNTURNED)


@pytest.mark.parametrize("name", [*TURNED, *UNTURNED])
def test_it_is_resized(name: str) -> None:
    made = resized({**TURNED, **UNTURNED}[name], name, 36, 90)
    with PIL.Image.open(io.BytesIO(made)) as image:
        assert image.size == ((36, 48) if name in TURNED else (48, 36))


KINDS = st.one_of(st.integers(0, 18), st.integers(0, 65535))
TAGS = st.sampled_from([X_RESOLUTION, UNIT, ORIENTATION, DATE, EXIF_IFD, GPS, 0x103, 0x201, 0x9C9B])
COUNTS = st.sampled_from([0, 1, 2, 7, 1 << 16, (1 << 32) - 1])
ENTRIES = st.lists(st.tuples(TAGS, KINDS, COUNTS, st.binary(min_size=4, max_size=4)), max_size=5)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(ENTRIES, st.sampled_from([(), (SIX,)]), st.binary(max_size=40), st.integers(8, 200))
def test_any_metadata(entries: list, six: tuple, after: bytes, end: int) -> None:
    block = fakes.exif(*six, *entries, after=after)[:end]
    data = jpeg(block)
    decoded = imagenet2012.decode_image(data)  # as it is of a picture that Pillow decodes
    try:
        transposed = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    except Exception:
        return
    assert same(decoded, transposed.convert("RGB"))
