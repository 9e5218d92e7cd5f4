"""Work in a thread beside the caller's, in order: items taken ahead of their use, calls carried out behind.

It pays where the work is done by libraries that let other threads run meanwhile, as OpenCV, PyTorch and ONNX Runtime
do. What comes out, and in which order, is what would come out without threads.
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
    """Yield items in order while a thread takes the next ones, at most ``count`` ahead.

    An error in taking an item is raised in that item's place, after those before it.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "prefetch") as thread:
        ahead: deque[Future[object]] = deque(thread.submit(next, iterator, _END) for _ in range(count))
        try:
            while (item := ahead.popleft().result()) is not _END:
                ahead.append(thread.submit(next, iterator, _END))
                yield cast(Item, item)
        finally:
            thread.shutdown(cancel_futures=True)


@contextmanager
def background_writer(write: Callable[Arguments, object], count: int) -> Iterator[Callable[Arguments, None]]:
    """Give a function that lets a thread call ``write``, and waits where that is ``count`` calls behind.

    An error is raised by one of the calls that follow, or at the end, which waits for all calls. When the block is left
    by an exception, calls that have not begun are dropped.
    """
    behind: deque[Future[object]] = deque()
    with ThreadPoolExecutor(1, "background_writer") as thread:

        def later(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
            if len(behind) == count:
                behind.popleft().result()
            behind.append(thread.submit(write, *args, **kwargs))

        try:
            yield later
            while behind:
                behind.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)
