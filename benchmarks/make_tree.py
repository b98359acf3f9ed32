"""Write the images of an export into class folders: ``make_tree.py EXPORT FOLDER``."""

import sys
from pathlib import Path

import pyarrow.parquet as pq

export, folder = map(Path, sys.argv[1:])
for shard in sorted(export.glob("data/train-*.parquet")):
    for row in pq.read_table(shard).to_pylist():
        path = folder / "train" / row["file_name"].partition("_")[0] / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])
