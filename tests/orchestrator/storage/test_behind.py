from threading import Barrier, Event

import pytest

from orchestrator.storage.behind import WRITES, Behind

BOUND = 60.0  # seconds; none of these waits in vain


def test_the_caller_does_not_wait_and_the_end_does() -> None:
    behind, let_go, done = Behind(), Event(), []

    def slow() -> None:
        assert let_go.wait(BOUND)
        done.append("written")

    behind.write("a", slow)
    assert not done
    let_go.set()
    behind.finish()
    assert done == ["written"]


def test_writes_of_one_name_keep_their_order_and_others_run_beside() -> None:
    behind, together, order = Behind(), Barrier(2), []

    def meets(word: str) -> None:
        together.wait(BOUND)  # only if "a" and "b" are written at once
        order.append(word)

    behind.write("a", lambda: meets("first"))
    behind.write("a", lambda: order.append("second"))
    behind.write("b", lambda: meets("other"))
    behind.finish()
    assert [word for word in order if word != "other"] == ["first", "second"]
    assert "other" in order


def test_many_of_one_name_take_all_threads_and_still_end() -> None:
    behind, order = Behind(), list[int]()
    for number in range(3 * WRITES):
        behind.write("a", lambda number=number: order.append(number))
    behind.finish()
    assert order == list(range(3 * WRITES))


def test_a_failure_is_raised_by_the_next_call() -> None:
    behind = Behind()

    def fails() -> None:
        raise OSError("full")

    behind.write("a", fails)
    behind.last["a"].exception(BOUND)
    with pytest.raises(OSError, match="full"):
        behind.write("b", lambda: None)
    behind.check()  # it is raised once
    behind.finish()


def test_a_failure_is_raised_at_the_end_and_what_follows_under_its_name_is_not_written() -> None:
    behind, let_go, done = Behind(), Event(), list[str]()

    def fails() -> None:
        assert let_go.wait(BOUND)
        raise OSError("full")

    behind.write("a", fails)
    behind.write("a", lambda: done.append("after a failure"))
    let_go.set()
    with pytest.raises(OSError, match="full"):
        behind.finish()
    assert not done
    behind.write("a", lambda: done.append("again"))  # it can be used again
    behind.finish()
    assert done == ["again"]
