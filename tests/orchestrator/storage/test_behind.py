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


def test_sixteen_are_written_at_once() -> None:
    behind, together = Behind(), Barrier(16)

    def meets() -> None:
        together.wait(BOUND)

    for number in range(16):
        behind.write(str(number), meets)
    behind.finish()
    assert WRITES == 16


def test_what_was_not_begun_at_a_failure_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.storage.behind.WRITES", 1)
    behind, let_go, has_ended, done = Behind(), Event(), Event(), list[str]()
    end = behind.pool.shutdown

    def noted(*, cancel_futures: bool = False) -> None:
        end(wait=False, cancel_futures=cancel_futures)
        has_ended.set()
        end()

    def fails() -> None:
        assert let_go.wait(BOUND)
        raise OSError("full")

    def holds() -> None:  # the one thread, while the rest is left out
        assert has_ended.wait(BOUND)

    monkeypatch.setattr(behind.pool, "shutdown", noted)
    behind.write("a", fails)
    behind.write("b", holds)
    behind.write("c", lambda: done.append("c"))
    let_go.set()
    with pytest.raises(OSError, match="full"):
        behind.finish()
    assert not done
