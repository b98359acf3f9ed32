"""Training batches: 64 random crops to 224, flipped by chance, as uint8, from two workers.

The variant is the loader. Each gives batches by its own public ways, and what it decodes and crops
is what its documentation says. The first batches are not timed.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind PYTHONPATH
import bare
import protocol
from protocol import Result
from protocol import timed

BATCH, WORKERS, SIZE = bare.LOADER["batch_size"], bare.LOADER["num_workers"], 224
SKIPPED = 10  # batches: workers start, and fill what is fetched ahead
MINE = ("in_place", "pillow", "export", "stream")


def jpegs(folder: Path) -> list[tuple[Path, int]]:
    """Return the images of an extracted tree with their labels."""
    classes = sorted((folder / "train").iterdir())
    return [(path, n) for n, one in enumerate(classes) for path in sorted(one.iterdir())]


# ------------------------------------------------------------------------- this loader


def my_rows(args: argparse.Namespace) -> Any:
    """Return the dataset, which is prepared already or now."""
    import datasets
    import imagenet2012

    cache = {"cache_dir": str(args.work / "cache"), "split": "train"}
    if args.variant == "export":
        return datasets.load_dataset(str(args.archives), **cache)
    name = None if args.variant == "stream" else "in_place"
    more = {"streaming": name is None, "verification_mode": "no_checks"}
    return imagenet2012.load(args.archives, name, **cache, **more)


def this_loader(args: argparse.Namespace) -> Any:
    """Return the training loop of the README: in place, of an export, of a stream, by Pillow."""
    import datasets
    import imagenet2012
    import torch
    from torch.nn.functional import interpolate
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, default_collate
    from torchcodec.decoders import decode_image
    from torchvision.transforms import v2

    augment = v2.RandomResizedCrop(SIZE)
    pillow = v2.Compose([v2.PILToTensor(), augment, v2.RandomHorizontalFlip()])

    def crop(jpeg: bytes) -> Any:
        image = decode_image(jpeg)[None]
        image = v2.functional.crop(image, **augment.make_params([image]))
        image = image.contiguous(memory_format=torch.channels_last)
        image = interpolate(image, augment.size, mode="bilinear", antialias=True)
        image = image.flip(3) if torch.rand(()) < 0.5 else image
        return image[0].permute(1, 2, 0)

    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        if args.variant == "pillow":
            images = torch.stack([pillow(image) for image in batch["image"]])
        else:
            jpegs = imagenet2012.read_images(batch["image"])
            images = default_collate([crop(jpeg) for jpeg in jpegs]).permute(0, 3, 1, 2)
        return {"image": images, "label": torch.tensor(batch["label"])}

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return transform({name: [row[name] for row in rows] for name in rows[0]})

    rows = my_rows(args)
    if args.variant != "pillow":
        rows = rows.cast_column("image", datasets.Image(decode=False))
    if args.variant == "stream":
        rows = rows.shuffle(seed=0, buffer_size=1000, max_buffer_input_shards=1)
        return DataLoader(rows, collate_fn=collate, drop_last=True, **bare.LOADER)
    rows = rows.with_transform(transform)
    sampler = BatchSampler(RandomSampler(rows), BATCH, drop_last=True)
    return DataLoader(rows, sampler=sampler, batch_size=None, num_workers=WORKERS)


# ------------------------------------------------------------------------- peers


def image_folder(args: argparse.Namespace) -> Any:
    """Torchvision's `ImageFolder`, with its v2 transforms."""
    import torch.utils.data
    from torchvision import datasets
    from torchvision.transforms import v2

    crop = v2.Compose([v2.PILToTensor(), v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()])
    images = datasets.ImageFolder(args.archives / "train", crop)
    return torch.utils.data.DataLoader(images, shuffle=True, drop_last=True, **bare.LOADER)


def timm_loader(args: argparse.Namespace) -> Any:
    """Timm's dataset of a folder, with its transforms and what collates them to uint8."""
    import timm.data
    import torch.utils.data
    from timm.data.loader import fast_collate

    crop = timm.data.create_transform(
        SIZE, is_training=True, use_prefetcher=True, color_jitter=None, interpolation="bilinear"
    )
    images = timm.data.create_dataset("", str(args.archives / "train"))
    images.transform = crop
    options = {"shuffle": True, "drop_last": True, "collate_fn": fast_collate}
    return torch.utils.data.DataLoader(images, **options, **bare.LOADER)


def webdataset_loader(args: argparse.Namespace) -> Any:
    """Webdataset's `WebLoader` of shards of 1000 images, decoded by Pillow."""
    import webdataset as wds
    from torchvision.transforms import v2

    crop = v2.Compose([v2.PILToTensor(), v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()])
    shards = sorted(map(str, args.work.glob("*.tar")))
    images = wds.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(1000).decode("pilrgb")
    images = images.to_tuple("jpg", "cls").map_tuple(crop, int).batched(BATCH, partial=False)
    return wds.WebLoader(images, batch_size=None, num_workers=WORKERS)


def tensorflow_loader(args: argparse.Namespace) -> Any:
    """Return `tf.data`, which decodes no more than the crop."""
    import tensorflow as tf

    paths, labels = zip(*((str(path), label) for path, label in jpegs(args.archives)), strict=True)

    def crop(path: Any, label: Any) -> Any:
        jpeg = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(jpeg),
            tf.zeros((1, 0, 4)),
            area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.io.decode_and_crop_jpeg(jpeg, window, channels=3)
        image = tf.cast(tf.image.resize(image, (SIZE, SIZE)), tf.uint8)
        return tf.image.random_flip_left_right(image), label

    images = tf.data.Dataset.from_tensor_slices((list(paths), list(labels)))
    images = images.shuffle(len(paths)).map(crop, num_parallel_calls=WORKERS)
    return images.batch(BATCH, drop_remainder=True).prefetch(4)


def ffcv_loader(args: argparse.Namespace) -> Any:
    """Return FFCV's `Loader` of its own file."""
    from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, ToTensor

    crop = [RandomResizedCropRGBImageDecoder((SIZE, SIZE)), RandomHorizontalFlip(), ToTensor()]
    pipelines = {"image": crop, "label": [IntDecoder(), ToTensor()]}
    order = {"order": OrderOption.RANDOM, "os_cache": True, "drop_last": True}
    path = str(args.work / "train.beton")
    return Loader(path, batch_size=BATCH, num_workers=WORKERS, pipelines=pipelines, **order)


LOADERS = {
    **dict.fromkeys(MINE, this_loader),
    "image_folder": image_folder,
    "timm": timm_loader,
    "webdataset": webdataset_loader,
    "tensorflow": tensorflow_loader,
    "ffcv": ffcv_loader,
}


def prepare(args: argparse.Namespace) -> int:
    """Convert the images for webdataset or FFCV; prepare those in place."""
    if args.variant in MINE:
        return len(my_rows(args))
    found = jpegs(args.archives)
    if args.variant == "webdataset":
        import random

        import webdataset as wds

        random.Random(0).shuffle(found)
        pattern = str(args.work / "%06d.tar")
        with wds.ShardWriter(pattern, maxcount=1000, verbose=0) as writer:
            for path, label in found:
                key = {"__key__": path.stem, "jpg": path.read_bytes(), "cls": str(label)}
                writer.write(key)
    else:
        from ffcv.fields import IntField, RGBImageField
        from ffcv.writer import DatasetWriter
        from torchvision.datasets import ImageFolder

        fields = {"image": RGBImageField("jpg", max_resolution=500), "label": IntField()}
        writer = DatasetWriter(str(args.work / "train.beton"), fields, num_workers=WORKERS)
        writer.from_indexed_dataset(ImageFolder(args.archives / "train"))
    return len(found)


def cpu_seconds() -> float:
    """Return the time that this process and its workers have computed."""
    own = Path("/proc/self")
    workers = " ".join(path.read_text() for path in own.glob("task/*/children")).split()
    stats = [(path / "stat").read_text() for path in (own, *map(own.parent.joinpath, workers))]
    ticks = [sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def batches(args: argparse.Namespace) -> Result:
    """Time `count` images of the loader, whose workers are at work already."""
    loader = LOADERS[args.variant](args)
    coming: Iterator[Any] = itertools.chain.from_iterable(loader for _ in itertools.count())
    for _ in range(SKIPPED):
        next(coming)
    wanted, before = args.count // BATCH, cpu_seconds()
    with timed() as timer:
        for _ in range(wanted):
            next(coming)
    cpu = cpu_seconds() - before
    return {"seconds": timer.seconds, "images": wanted * BATCH, "cpu": cpu}


if __name__ == "__main__":
    protocol.main(prepare, batches=batches)
