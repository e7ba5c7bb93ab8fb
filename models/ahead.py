"""Work that is done beside whoever wants its results."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

AHEAD = 2  # items that are made before they are wanted


def ahead[T](items: Iterator[T]) -> Generator[T]:
    """The same items in their order, made by one thread, AHEAD of them before they are wanted.

    Raises what making an item raises, in its place.
    """
    end = object()
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming = deque(thread.submit(next, items, end) for _ in range(AHEAD))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, items, end))
            yield item  # pyright: ignore[reportReturnType] - it is not the end
