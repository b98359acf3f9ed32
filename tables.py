"""Rows as Arrow tables, the next one made while the last is written."""

import itertools
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .rows import Row, raising, with_error

MAX_TABLE_BYTES = 1 << 27  # Arrow can hold 2 GiB


def tables_of(rows: Iterator[Row], length: int) -> Iterator[pa.Table]:
    """Yield tables of `length` rows, of fewer if their images are large together."""
    chosen: list[Row] = []
    volume = 0
    for row in rows:
        chosen.append(row)
        volume += len(row.data or b"")
        if len(chosen) >= length or volume > MAX_TABLE_BYTES:
            table, chosen, volume = [table_of(chosen)], [], 0
            yield table.pop()  # not held while the next one is made
    if chosen:
        yield table_of(chosen)


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return a table of rows, as the dataset is stored."""
    names, paths, data, labels = zip(*rows, strict=True)
    if data[0] is None:
        stored = pa.nulls(len(data), pa.binary())
    else:  # joined at once, which takes a third of the time that `pa.array` does
        ends = pa.array([0, *itertools.accumulate(map(len, data))], pa.int32())
        joined = pa.py_buffer(b"".join(data))
        stored = pa.Array.from_buffers(pa.binary(), len(data), [None, ends.buffers()[1], joined])
    image = pa.StructArray.from_arrays([stored, pa.array(paths, pa.string())], ["bytes", "path"])
    columns = {"file_name": pa.array(names, pa.string()), "image": image}
    return pa.table({**columns, "label": pa.array(labels, pa.int64())})


def prefetched(items: Iterator[Any]) -> Iterator[Any]:
    """Yield items, of which a thread makes the next while one is used; raise what it raises."""
    made: queue.Queue[Any] = queue.Queue(1)

    def make() -> None:
        for item in itertools.chain(with_error(items), [None]):
            made.put(item)

    # Unlike those of `concurrent.futures`, it does not keep the process from ending while it waits.
    threading.Thread(target=make, daemon=True).start()
    return raising(iter(made.get, None))


def repeated_name(folder: str, prefix: str) -> str | None:
    """Return a file name that appears more than once in the shards of a split in a folder."""
    chunks: list[pa.Array] = []
    for shard in sorted(os.listdir(folder)):
        if shard.startswith((f"{prefix}-", f"{prefix}.")):
            stream = pa.ipc.open_stream(pa.memory_map(f"{folder}/{shard}"))
            chunks += [batch.column("file_name").cast(pa.string()) for batch in stream]
    names = pa.chunked_array(chunks, pa.string())
    if pc.count_distinct(names).as_py() == len(names):
        return None
    return next(one["values"] for one in pc.value_counts(names).to_pylist() if one["counts"] > 1)
