"""How a search goes: how many trials, how long, what proposes them, what stops them, and how the best one is chosen."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from models.table import Entry, Settings, Table
from orchestrator.config.entries import one_of
from orchestrator.config.limits import COSTS, Cost
from orchestrator.config.reading import Strict
from orchestrator.config.space import SPACE, Domain


@dataclass(frozen=True)
class TpeSettings(Settings):
    """Optuna's tree-structured Parzen estimator, of all settings together (multivariate)."""

    name: str = "tpe"


@dataclass(frozen=True)
class GaussianProcessSettings(Settings):
    """Optuna's Gaussian process; it learns from what trials reached at the first cycle end at which they are judged."""

    name: str = "gp"


@dataclass(frozen=True)
class SobolSettings(Settings):
    """The points of a scrambled Sobol sequence, which fill the space evenly."""

    name: str = "sobol"


@dataclass(frozen=True)
class RandomSettings(Settings):
    """Each trial is drawn at random."""

    name: str = "random"


@dataclass(frozen=True)
class GeneticSettings(Settings):
    """NSGA-II (Deb et al. 2002), for several objectives; its generations are trials in the order of their numbers."""

    name: str = "nsga2"
    population: int = 8  # trials of a generation

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ValueError(f"nsga2: population must be at least 2, not {self.population}")


SAMPLERS = Table(
    "sampler",
    {
        "tpe": Entry(TpeSettings, "orchestrator.stages.samplers:Tpe"),
        "gp": Entry(GaussianProcessSettings, "orchestrator.stages.samplers:GaussianProcess"),
        "sobol": Entry(SobolSettings, "orchestrator.stages.samplers:Sobol"),
        "random": Entry(RandomSettings, "orchestrator.stages.samplers:Random"),
        "nsga2": Entry(GeneticSettings, "orchestrator.stages.samplers:Genetic"),
    },
)
"""An implementation is an orchestrator/stages/samplers.py: Sampler, made from its settings."""


@dataclass(frozen=True)
class HalvingSettings(Settings):
    """Successive halving: a trial goes on past a cycle end if it is among the best of those before it."""

    name: str = "halving"
    reduction_factor: int = 4  # one in so many goes on: the default of Li et al. (2020)
    grace_cycles: int = 1  # a trial is not judged before the end of this cycle

    def __post_init__(self) -> None:
        if self.reduction_factor < 2 or self.grace_cycles < 1:
            raise ValueError("reduction_factor must be at least 2, grace_cycles at least 1")


@dataclass(frozen=True)
class MedianSettings(Settings):
    """The median rule of Vizier (Golovin et al. 2017): a trial stops where it is worse than the median before it."""

    name: str = "median"
    least: int = 5  # trials that must be there to compare with
    grace_cycles: int = 1  # a trial is not judged before the end of this cycle

    def __post_init__(self) -> None:
        if self.least < 1 or self.grace_cycles < 1:
            raise ValueError("least and grace_cycles must be at least 1")


@dataclass(frozen=True)
class NoneSettings(Settings):
    """Every trial is trained to its end."""

    name: str = "none"


STOPPING = Table(
    "stopping rule",
    {
        "halving": Entry(HalvingSettings, "orchestrator.stages.stopping:Halving"),
        "median": Entry(MedianSettings, "orchestrator.stages.stopping:Median"),
        "none": Entry(NoneSettings, "orchestrator.stages.stopping:Never"),
    },
)
"""An implementation is an orchestrator/stages/stopping.py: StoppingRule, made from its settings."""


class Finalists(Strict):
    """The last round: the best trials, the default recipe and the plain one, again from other initial weights."""

    best: Annotated[int, Field(ge=1, le=1000)] = 3  # so many of the trials, beside the default and the plain one
    seeds: Annotated[int, Field(ge=1, le=1000)] = 3  # trainings of each


def or_none(value: Any) -> Any:
    """0 turns the last round off."""
    if isinstance(value, int) and value != 0:
        raise ValueError("needs best and seeds, such as {best: 3, seeds: 3}, or 0 for no last round")
    return None if value == 0 else value


Objective = Literal["log_loss", "accuracy", "bytes", "macs", "peak"]


class SearchSettings(Strict):
    """Students over recipes: a sampler proposes, a stopping rule ends the worse ones at cycle ends."""

    trials: Annotated[int, Field(ge=1, le=100_000)] = 16  # the first is the student's own recipe, the second plain
    cycle_ends: tuple[int, ...]  # each trial's schedule, shorter than the final one
    sampler: Annotated[Settings, one_of(SAMPLERS, "tpe")] = TpeSettings()  # what proposes trials
    # A proposal knows the first judged cycle end of trials so many before it, and all of those four times as many
    # before it: no more, so that it does not depend on how many workers there are.
    lag: Annotated[int, Field(ge=1, le=100_000)] = 8
    # Trials that a process with the resources of one trains as one: for GPUs, which one student leaves idle. On CPUs
    # that is slower than one after another. Each learns what it learns alone, but for rounding (docs/scale.md).
    together: Annotated[int, Field(ge=1, le=1000)] = 1
    stopping: Annotated[Settings, one_of(STOPPING, "halving")] = HalvingSettings()  # which trials end early
    finalists: Annotated[Finalists | None, BeforeValidator(or_none)] = Finalists()
    # What is searched over together: select_by and costs, the most important cost first; empty: select_by alone. Then
    # the smallest of the students within one standard error of the best is chosen.
    objectives: tuple[Objective, ...] = ()
    space: dict[str, Domain] = Field(SPACE, min_length=1)  # setting of the student -> its range or choices

    @model_validator(mode="before")
    @classmethod
    def no_more_finalists_than_trials(cls, values: Any) -> Any:
        """Of few trials, as many are finalists as there are, unless the file says how many."""
        trials = values.get("trials", cls.model_fields["trials"].default) if isinstance(values, dict) else None
        finalists = values.get("finalists", {}) if isinstance(values, dict) else None
        if isinstance(trials, int) and isinstance(finalists, dict) and "best" not in finalists:
            usual: int = Finalists.model_fields["best"].default
            return {**values, "finalists": {**finalists, "best": max(1, min(usual, trials))}}
        return values

    @property
    def costs(self) -> tuple[Cost, ...]:
        """The costs among the objectives, in their order."""
        return tuple(name for name in self.objectives if name in COSTS)

    @model_validator(mode="before")
    @classmethod
    def stops_nobody_for_its_size(cls, values: Any) -> Any:
        """With several objectives no trial is stopped, unless the file asks for it, which `consistent` refuses."""
        if isinstance(values, dict) and len(values.get("objectives") or ()) > 1 and "stopping" not in values:
            return {**values, "stopping": "none"}
        return values

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """Raises ValueError where a setting asks for more cycles or trials than there are, or for what does not fit."""
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives {list(self.objectives)} has one twice")
        if self.costs and not any(name.startswith("model.") for name in self.space):
            raise ValueError(
                f"objectives has {self.costs[0]}, which no setting of space changes: add settings of model, or leave "
                f"it out"
            )
        if len(self.objectives) > 1 and not isinstance(self.stopping, NoneSettings):
            raise ValueError(
                f"stopping {STOPPING.name_of(self.stopping)} judges by one objective, and there are "
                f"{len(self.objectives)}: set stopping to none"
            )
        grace = getattr(self.stopping, "grace_cycles", 0)
        if grace > len(self.cycle_ends):
            raise ValueError(f"stopping.grace_cycles is {grace}; there are {len(self.cycle_ends)} cycles")
        if self.finalists and self.finalists.best > self.trials:
            raise ValueError(f"finalists.best is {self.finalists.best}; there are {self.trials} trials")
        return self
