"""Prefetching and background writing: one worker thread each, in order.

Threads help because OpenCV, PyTorch and ONNX Runtime release Python's global lock while they work. Results and their
order are the same as without threads.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar, cast

Item = TypeVar("Item")
Arguments = ParamSpec("Arguments")

_END = object()


def prefetch(items: Iterable[Item], count: int) -> Generator[Item, None, None]:
    """Yield items in order while a thread fetches the next ones.

    An exception in fetching an item is raised at that item's position, after all items before it.

    Args:
        items: iterated in the thread.
        count: maximum number of items to fetch ahead.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "prefetch") as thread:
        pending: deque[Future[object]] = deque(thread.submit(next, iterator, _END) for _ in range(count))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(thread.submit(next, iterator, _END))
                yield cast(Item, item)
        finally:
            thread.shutdown(cancel_futures=True)


@contextmanager
def background_writer(write: Callable[Arguments, object], count: int) -> Iterator[Callable[Arguments, None]]:
    """Provide a function that queues calls of ``write`` for a thread and blocks while ``count`` calls are pending.

    An exception in ``write`` is raised by a later call, or at the end of the block, which waits for all calls. If the
    block ends with an exception, calls that have not started are dropped.

    Args:
        write: called in the thread, in order.
        count: maximum number of pending calls.
    """
    pending: deque[Future[object]] = deque()
    with ThreadPoolExecutor(1, "background_writer") as thread:

        def submit(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
            if len(pending) == count:
                pending.popleft().result()
            pending.append(thread.submit(write, *args, **kwargs))

        try:
            yield submit
            while pending:
                pending.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)
