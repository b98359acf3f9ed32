"""How the dataset is written: in tables, whose images are read while the table before is written.

`datasets` takes longer over single examples than it takes to read them. So the one thing that is
overridden here makes it prepare a `GeneratorBasedBuilder` as it prepares an `ArrowBasedBuilder`.
"""

import concurrent.futures
import gc
import itertools
import mmap
import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetGenerationError

from .tar_reader import Member
from .tree_listing import File

T = TypeVar("T")
R = TypeVar("R")
ENDING_SECONDS = 2  # to wait for what is being read when nobody wants it any more
MAX_TABLE_BYTES = 1 << 27  # Arrow can hold 2 GiB
BUFFER_BYTES = 160 << 10  # for an image; a hundred rarely take more


class Row(NamedTuple):
    """An example on its way: a member, what the image column stores of it, and its label.

    Attributes
    ----------
    member : Member or File
    path : str
    data : bytes or memoryview, optional
        None if the image stays where `path` says.
    label : int
    """

    member: Member | File
    path: str
    data: Any
    label: int


RowNumber = tuple[int, int]  # which shard a row is of, and which of its rows it is
Key = getattr(datasets.builder, "Key", None)  # since datasets 4.4.2


def key_of(place: RowNumber, row: Row) -> Any:
    """Return the key that `datasets` wants of a row of a stream."""
    return Key(*place) if Key else row.member.name


class WritesTables:
    """For a `datasets.GeneratorBasedBuilder` that has a method ``_generate_tables``."""

    # What `datasets.ArrowBasedBuilder` takes to prepare a part of a split.
    _ARGUMENTS = ("gen_kwargs", "fpath", "file_format", "max_shard_size", "job_id")
    _main_pid: int
    _ctrl_c_ends: bool

    def note_main_process(self) -> None:
        """Note in the main process what workers must know of it."""
        self._main_pid = os.getpid()
        self._ctrl_c_ends = signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def _prepare_split_single(self, **kwargs: Any) -> Iterator[Any]:
        if is_worker := os.getpid() != self._main_pid:
            # Ctrl-C reaches the workers too. It ends them only where it ends the main process.
            handler = _wait_to_be_ended if self._ctrl_c_ends else signal.SIG_IGN
            signal.signal(signal.SIGINT, handler)
        prepare: Any = datasets.ArrowBasedBuilder._prepare_split_single
        try:
            yield from prepare(self, **{name: kwargs[name] for name in self._ARGUMENTS})
        except RuntimeError as error:
            # When a worker is ended, its generators are closed; that of `datasets` yields once more
            # all the same, of which Python complains.
            if "GeneratorExit" not in str(error):
                raise
        except DatasetGenerationError as error:
            # With num_proc only the message reaches the user, so it must name the cause.
            cause = error.__cause__ or error
            raise DatasetGenerationError(f"{type(cause).__name__}: {cause}") from cause
        finally:
            if is_worker:
                signal.signal(signal.SIGINT, signal.SIG_IGN)


def _wait_to_be_ended(*_: Any) -> None:
    """Wait in a worker for the main process, which Ctrl-C has reached too, to end it.

    If it went on it would soon find nobody to report to, and tell its pool. Ended just then, it
    would hold a lock for which the main process waits for ever.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(1)  # the main process was killed


class ImageBuffer:
    """Memory to which the images of a table are read end to end, as Arrow stores them.

    Parameters
    ----------
    capacity : int
        Bytes.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._renew()

    def _renew(self) -> None:
        self._buffer = pa.allocate_buffer(self._capacity)
        self._free = memoryview(self._buffer).cast("B")
        self._images: list[memoryview] = []

    def read(self, reader: Any, member: Member | File) -> memoryview | bytes:
        """Return the bytes of an image, which are in this buffer, or elsewhere if it is full."""
        size = reader.read_into(member, self._free)
        if size < 0:
            return reader.read(member)
        image, self._free = self._free[:size], self._free[size:]
        self._images.append(image)
        return image

    def take(self, images: Sequence[Any]) -> pa.Buffer:
        """Return the bytes of a table's images, end to end, and begin a new buffer."""
        complete = len(images) == len(self._images)
        complete = complete and all(map(operator.is_, images, self._images))
        used = self._buffer.slice(0, self._capacity - len(self._free))
        joined = used if complete else pa.py_buffer(b"".join(images))
        self._renew()
        return joined


def tables_of(
    rows: Iterator[tuple[RowNumber, Row]],
    length: int,
    buffer: ImageBuffer | None,
    cancelled: threading.Event,
) -> Iterator[tuple[str, pa.Table]]:
    """Yield tables of rows, each with a key.

    The key is a plain string. Of a `Key`, `datasets` 4.4.2 to 5.0.1 adds the table's rows to a list
    of the lengths of shards, which grows by one at a time: it fails where a table ends a later one.

    Parameters
    ----------
    rows : iterator of (RowNumber, Row)
    length : int
        Rows in a table, if their images are not too large together.
    buffer : ImageBuffer, optional
        Where the images are, if they are in one.
    cancelled : threading.Event
        If it is set, no more is read.
    """
    chosen: list[Row] = []
    volume = 0
    for place, row in rows:
        if cancelled.is_set():
            return
        chosen.append(row)
        volume += len(row.data or b"")
        if len(chosen) >= length or volume > MAX_TABLE_BYTES:
            table, chosen, volume = _table_of(chosen, buffer), [], 0
            yield str(place), table
    if chosen:
        yield str(place), _table_of(chosen, buffer)


def _table_of(rows: list[Row], buffer: ImageBuffer | None) -> pa.Table:
    members, paths, data, labels = zip(*rows, strict=True)
    if data[0] is None:
        stored = pa.nulls(len(data), pa.binary())
    else:
        ends = pa.array([0, *itertools.accumulate(map(len, data))], pa.int32())
        joined = buffer.take(data) if buffer else pa.py_buffer(b"".join(data))
        stored = pa.Array.from_buffers(pa.binary(), len(data), [None, ends.buffers()[1], joined])
    image = pa.StructArray.from_arrays([stored, pa.array(paths, pa.string())], ["bytes", "path"])
    names = pa.array([member.name for member in members], pa.string())
    columns = {"file_name": names, "image": image, "label": pa.array(labels, pa.int64())}
    return pa.table(columns)


def without_garbage_collection(items: Iterator[T]) -> Iterator[T]:
    """Yield items, of which each is made while Python does not look for garbage.

    While an index is made tens of thousands of members are kept, and it would go through all of
    them again and again: an eighth of the time from memory.
    """
    while True:
        was_on = gc.isenabled()
        gc.disable()
        try:
            item = next(items, None)
        finally:
            if was_on:
                gc.enable()
        if item is None:
            return
        yield item


def prefetched(items: Iterator[T], cancelled: threading.Event) -> Iterator[T]:
    """Yield items, of which a thread makes the next one while one is used.

    `cancelled` is set when nobody waits for it any more.
    """
    coming = _in_thread(next, items, None)
    try:
        while (item := coming.result()) is not None:
            coming = _in_thread(next, items, None)
            yield item
    finally:
        cancelled.set()
        concurrent.futures.wait([coming], timeout=ENDING_SECONDS)


def _in_thread(function: Callable[..., R], *args: Any) -> "concurrent.futures.Future[R]":
    """Call a function in a thread that does not keep the process from ending.

    Those of `concurrent.futures` do: for minutes where a server does not answer.
    """
    future: concurrent.futures.Future[R] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="imagenet2012-prefetch", daemon=True).start()
    return future


def repeated_name(files: Sequence[str]) -> str | None:
    """Return a file name that appears more than once in the Arrow or Parquet files of a split."""
    # Only names that share their hash are compared: a million of them take a hundred megabytes.
    hashes = np.fromiter(map(hash, _names(files)), np.int64)
    hashes.sort()
    shared = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    seen: set[str] = set()
    for name in _names(files) if shared else ():
        if hash(name) in shared:
            if name in seen:
                return name
            seen.add(name)
    return None


def _names(files: Sequence[str]) -> Iterator[str]:
    """Yield the file names in Arrow or Parquet files."""
    for file in files:
        if file.endswith(".parquet"):
            for batch in pq.ParquetFile(file).iter_batches(columns=["file_name"]):
                yield from batch["file_name"].to_pylist()
            continue
        with open(file, "rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        for batch in pa.ipc.open_stream(pa.py_buffer(mapped)):
            yield from batch["file_name"].to_pylist()
            if hasattr(mmap, "MADV_DONTNEED"):  # pages count as memory of this process till then
                mapped.madvise(mmap.MADV_DONTNEED)
