"""webdataset: the archives converted to shards by its `ShardWriter`."""

import argparse

import bare
import protocol
import webdataset as wds


def prepare(args: argparse.Namespace) -> int:
    count = 0
    for split, name in (("train", bare.TRAIN), ("validation", bare.VALIDATION)):
        pattern = str(args.work / f"{split}-%06d.tar")
        with (
            (args.archives / name).open("rb") as file,
            wds.ShardWriter(pattern, maxcount=10_000, maxsize=500e6, mtime=0, verbose=0) as writer,
        ):
            for file_name, data in bare.files(file):
                key = file_name.removesuffix(".JPEG")
                writer.write({"__key__": key, "jpg": data, "txt": key.partition("_")[0]})
                count += 1
    return count


if __name__ == "__main__":
    protocol.main(prepare)
