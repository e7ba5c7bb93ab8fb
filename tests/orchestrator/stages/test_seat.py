"""Which bench a trial sits down at, and what it asks of it; Ray's part is played by plain calls."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayError

from orchestrator.stages import seat as seats
from orchestrator.stages.seat import Seat
from orchestrator.training.record import Training

CONFIG = {"trial": {"stage": "search", "trial": "student-01", "number": 1, "epochs": 3}}


class Bench:
    """`taken` seats, or one that cannot be reached; a full one lets nobody sit down."""

    def __init__(self, taken: int | None, is_full: bool = False) -> None:
        self.is_full, self.calls = is_full, list[tuple[str, Any]]()
        self.counted, self.is_lost = taken, taken is None

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: self.asked(name, *given))

    def asked(self, name: str, *given: Any) -> Callable[[], Any]:
        def answer() -> Any:
            self.calls.append((name, *given))
            if self.is_lost:
                self.is_lost = False  # it is started again
                raise RayError("the actor is unavailable")
            return {"taken": self.counted or 0, "join": not self.is_full, "step": {"epoch": 2}, "leave": None}[name]

        return answer


@pytest.fixture(autouse=True)
def ray(monkeypatch) -> None:
    plain = SimpleNamespace(get=lambda call: call(), wait=lambda calls, num_returns, timeout: (calls, []))
    monkeypatch.setattr(seats, "ray", plain)
    monkeypatch.setattr(seats, "MOMENT", 0.0)


def seated(*benches: Bench) -> Seat:
    seat = Seat.__new__(Seat)
    seat.setup(CONFIG, benches)
    return seat


def places(*benches: Bench) -> list[int]:
    """Whose bench the training sits at, after a step."""
    assert seated(*benches).step() == {"epoch": 2}
    return [number for number, bench in enumerate(benches) if ("step", Training(**CONFIG["trial"])) in bench.calls]


def test_it_sits_down_where_most_seats_are_free():
    assert places(Bench(3), Bench(1), Bench(2)) == [1]
    assert places(Bench(3), Bench(1, is_full=True), Bench(2)) == [2]


def test_a_bench_that_cannot_be_reached_is_passed_over_and_asked_again():
    assert places(Bench(None), Bench(5)) == [1]
    assert places(Bench(None), Bench(5, is_full=True)) == [0]


def test_it_gives_its_seat_up_for_the_next_training_and_at_its_end():
    bench = Bench(0)
    seat = seated(bench)
    seat.cleanup()  # before it has one
    seat.step()
    assert seat.reset_config({"trial": {**CONFIG["trial"], "trial": "student-02", "number": 2}}) is True
    assert bench.calls[-1] == ("leave", "student-01") and seat.training.trial == "student-02"
    seat.step()
    bench.is_lost = True
    seat.cleanup()  # whatever has become of the bench
    assert bench.calls[-1] == ("leave", "student-02") and seat.bench is None
    assert "student" in repr(seat)
