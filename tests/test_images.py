"""What an image may be: three channels come out, and errors name the file."""

import io
import multiprocessing
from pathlib import Path
from typing import Any

import datasets
import fakes
import PIL.Image
import pytest
from rows import contents

import imagenet2012

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
    "image", [b"", b"no image", fakes.jpeg(8)[:500]], ids=["empty", "text", "cut"]
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


def _decode(dataset: datasets.Dataset) -> str:
    try:
        return dataset[0]["image"].mode
    except OSError as error:
        return str(error)


def test_errors_name_the_image_in_a_spawned_worker_too(tmp_path: Path) -> None:
    loaded = load_images(tmp_path, [b"no image"])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert "n01440764_1.JPEG" in pool.apply(_decode, (loaded,))


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
