"""Write the images of an index as Parquet on a Ray cluster: ``python on_ray.py INDEX OUTPUT``.

INDEX is what ``imagenet2012 index`` wrote. All nodes share a file system with it, the archives and
OUTPUT, and have the package installed. ``datasets.load_dataset(OUTPUT)`` loads what was written.
"""

import sys
from pathlib import Path

import pyarrow as pa
import ray
from huggingface_hub import DatasetCard

from imagenet2012 import read_images


def with_images(rows: pa.Table) -> pa.Table:
    """Return rows with the bytes of their images."""
    data = pa.array(read_images(rows["image"].to_pylist()), pa.binary())
    names = rows["file_name"].combine_chunks()
    image = pa.StructArray.from_arrays([data, names], ["bytes", "path"])
    return rows.set_column(rows.schema.get_field_index("image"), "image", image)


def main(index: Path, output: Path) -> None:
    """Write each split to a folder of its own, and the card, which holds the features."""
    card = DatasetCard.load(index / "README.md")
    output.mkdir(parents=True)  # else what another run left would be loaded with it
    for files in card.data.configs[0]["data_files"]:
        rows = ray.data.read_parquet([str(path) for path in sorted(index.glob(files["path"]))])
        images = rows.map_batches(with_images, batch_format="pyarrow", batch_size=None)
        images.write_parquet(str((output / "data" / files["split"]).absolute()))
        files["path"] = f"data/{files['split']}/*.parquet"
    card.text = "\n# ImageNet-1k (ILSVRC2012)\n\nWritten from an index by Ray.\n"
    card.save(output / "README.md")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
