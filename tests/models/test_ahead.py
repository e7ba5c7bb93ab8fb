"""Items made by a thread beside whoever wants them."""

import threading
from collections.abc import Iterator

import pytest

from models.ahead import ahead
from tests.waiting import wait_for


def test_items_come_in_their_order_and_are_made_by_one_other_thread():
    threads = set[int]()

    def made() -> Iterator[int]:
        for number in range(5):
            threads.add(threading.get_ident())
            yield number

    assert list(ahead(made())) == [0, 1, 2, 3, 4] and list(ahead(iter([]))) == []
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_two_items_are_made_before_they_are_wanted_and_no_more():
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            yield number

    coming = ahead(numbers())
    assert next(coming) == 0
    wait_for(lambda: made == [0, 1, 2])
    assert next(coming) == 1
    wait_for(lambda: made == [0, 1, 2, 3])
    coming.close()
    assert made == [0, 1, 2, 3]


def test_an_error_comes_in_the_place_of_its_item():
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    coming = ahead(broken())
    assert next(coming) == 1
    with pytest.raises(OSError, match="gone"):
        next(coming)
    assert list(coming) == []
