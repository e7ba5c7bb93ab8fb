"""A Tune trial whose training is done at a bench. It has no torch: what it takes is a process of Ray's."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from orchestrator.training.record import Training

MOMENT = 0.5  # seconds between two looks for a free seat


class Seat(tune.Trainable):
    """One training as a Tune trial: it asks its bench for the next epochs."""

    bench: Any = None

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride] - Tune passes with_parameters' values here
        self, config: dict[str, Any], benches: Sequence[Any]
    ) -> None:
        """`benches` are actors."""
        self.benches = benches
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune where the process, done with one training, is given the next."""
        self.cleanup()
        self.training = Training(**new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        """The bench's."""
        if self.bench is None:
            self.bench = self.found()
        return ray.get(self.bench.step.remote(self.training))

    def found(self) -> Any:
        """A bench with a seat for the training, of those that answer the one where most seats are free."""
        asked = {bench.taken.remote(): bench for bench in self.benches}
        while True:
            answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=MOMENT)
            free = list[tuple[int, int]]()
            benches = [asked.pop(answer) for answer in answered]
            for place, answer in enumerate(answered):
                with suppress(RayError):  # a bench that is started again, or whose node is lost
                    free.append((ray.get(answer), place))
            for _, place in sorted(free):
                with suppress(RayError):
                    if ray.get(benches[place].join.remote(self.training)):
                        return benches[place]
            asked |= {bench.taken.remote(): bench for bench in benches}
            time.sleep(MOMENT)

    def cleanup(self) -> None:
        """Called by Tune at a process's end."""
        if self.bench is not None:
            with suppress(RayError):  # the bench may be what was lost
                ray.get(self.bench.leave.remote(self.training.trial))
        self.bench = None

    def __repr__(self) -> str:
        return "a student of the search, trained with others as one"
