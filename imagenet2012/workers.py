"""Worker processes that Ctrl-C does not reach, and that end with the process that started them."""

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any, TypeVar

R = TypeVar("R")
Progress = Callable[[int], object]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

_context = multiprocessing.get_context("spawn")
_to_tell: list[Progress] = []  # who is told of images that are done here


def results(
    function: Callable[..., R],
    tasks: Iterable[tuple[Any, ...]],
    processes: int,
    progress: Progress = lambda _: None,
) -> Iterator[R]:
    """Yield what a function returns for each tuple of arguments, as they are finished.

    If the caller stops early, or an error or Ctrl-C comes, workers stop at their next `advance`.
    `progress` is told what the workers tell by that. A single process is this one.
    """
    if processes == 1:
        _to_tell.append(progress)
        try:
            yield from itertools.starmap(function, tasks)
        finally:
            _to_tell.clear()
        return
    if os.name == "nt":
        processes = min(processes, 61)  # as many as Windows can wait for
    done, stop, told = _context.Value("q", 0), _context.Event(), 0
    with ProcessPoolExecutor(processes, _context, _start, (done, stop)) as pool:
        try:
            with _uninterrupted():
                waiting = {pool.submit(function, *task) for task in tasks}
            while waiting:
                finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                now = done.value
                progress(now - told)
                told = now
                for future in finished:
                    yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def advance(images: int) -> None:
    """Tell, in a worker, that images are done; to be called at each or a few.

    Raises
    ------
    InterruptedError
        If nobody waits for the worker any more.
    """
    for tell in _to_tell:
        tell(images)


def _start(done: Any, stop: Any) -> None:
    def tell(images: int) -> None:
        with done.get_lock():
            done.value += images
        if stop.is_set():
            raise InterruptedError("stopped")

    _to_tell.append(tell)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process tells when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # it was killed


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that Ctrl-C cannot reach, not even while they import; here it comes later.

    What is blocked stays blocked in a process that is started. Here another thread may still get
    the signal for this one, which must not leave a process half started.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "pthread_sigmask"):  # Windows has none
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)
