"""Worker processes that Ctrl-C does not reach, and that end with the process that started them."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import as_completed
from typing import Any
from typing import TypeVar

R = TypeVar("R")

_context = multiprocessing.get_context("spawn")
_shared: dict[str, Any] = {}  # in a worker: the event that tells it to stop


def results(
    function: Callable[..., R], tasks: Iterable[tuple[Any, ...]], processes: int
) -> Iterator[R]:
    """Yield what a function returns for each tuple of arguments, as they are finished.

    If the caller stops early, or an error or Ctrl-C comes, the workers are told to: see `stopped`.
    """
    stop = _context.Event()
    with ProcessPoolExecutor(processes, _context, _start, (stop,)) as pool:
        try:
            with _uninterrupted():
                futures = [pool.submit(function, *task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def stopped() -> bool:
    """Tell a worker, which should ask at each image, whether nobody waits for it any more."""
    return bool(_shared) and _shared["stop"].is_set()


def _start(stop: Any) -> None:
    _shared["stop"] = stop
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
