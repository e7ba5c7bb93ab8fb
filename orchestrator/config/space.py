"""What a search varies: the settings' ranges and choices, and how many trials, how long, may try them."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from models.table import Entry, Settings, Table
from orchestrator.config.entries import one_of
from orchestrator.config.reading import Strict


class Range(Strict):
    """A continuous or integer setting between two bounds, both included."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("needs low < high, and low > 0 where log is true")
        return self


class Choices(Strict):
    choices: tuple[Any, ...] = Field(min_length=1)


def kind_of_domain(value: Any) -> str:
    return "[choices]" if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value) else "[range]"


# Tags in brackets are no part of a setting's name (reading.py: explain).
Domain = Annotated[
    Annotated[Range, Tag("[range]")] | Annotated[Choices, Tag("[choices]")], Discriminator(kind_of_domain)
]


SPACE: dict[str, Range | Choices] = {
    "recipe.scene_weight": Range(low=0.5, high=1.0),
    "recipe.soft_weight": Range(low=0.1, high=1.0),
    "recipe.temperature": Range(low=1.0, high=8.0, log=True),
    "recipe.mixup_alpha": Range(low=0.1, high=0.6),
}


@dataclass(frozen=True)
class TpeSettings(Settings):
    """Optuna's tree-structured Parzen estimator."""

    name: str = "tpe"
    startup_trials: int = 10  # so many trials are drawn at random first

    def __post_init__(self) -> None:
        if self.startup_trials < 1:
            raise ValueError(f"startup_trials must be at least 1, not {self.startup_trials}")


@dataclass(frozen=True)
class RandomSettings(Settings):
    """Each trial is drawn at random."""

    name: str = "random"


SAMPLERS = Table(
    "sampler",
    {
        "tpe": Entry(TpeSettings, "orchestrator.stages.samplers:tpe"),
        "random": Entry(RandomSettings, "orchestrator.stages.samplers:random"),
    },
)
"""An implementation is a function (settings, seed) -> optuna.samplers.BaseSampler."""


@dataclass(frozen=True)
class AshaSettings(Settings):
    """ASHA (Li et al. 2020): at each cycle end a trial that is worse than most others is stopped."""

    name: str = "asha"
    reduction_factor: int = 2  # one in so many is kept at each cycle end
    grace_cycles: int = 1  # a trial is not judged before the end of this cycle

    def __post_init__(self) -> None:
        if self.reduction_factor < 2 or self.grace_cycles < 1:
            raise ValueError("reduction_factor must be at least 2, grace_cycles at least 1")


@dataclass(frozen=True)
class NeverSettings(Settings):
    """Every trial is trained to its end."""

    name: str = "never"


STOPPING = Table(
    "stopping rule",
    {
        "asha": Entry(AshaSettings, "orchestrator.stages.stopping:Halving"),
        "never": Entry(NeverSettings, "orchestrator.stages.stopping:Never"),
    },
)
"""An implementation is an orchestrator/stages/stopping.py: StoppingRule, made from its settings and the experiment."""


class SearchSettings(Strict):
    """Students over recipes: a sampler proposes, a stopping rule ends the worse ones at cycle ends."""

    trials: Annotated[int, Field(ge=1)] = 16
    cycle_ends: tuple[int, ...]  # each trial's schedule, shorter than the final one
    sampler: Annotated[Settings, one_of(SAMPLERS, "tpe")] = TpeSettings()
    stopping: Annotated[Settings, one_of(STOPPING, "asha")] = AshaSettings()
    space: dict[str, Domain] = Field(SPACE)

    @model_validator(mode="after")
    def judges_within_the_schedule(self) -> Self:
        grace = self.stopping.grace_cycles if isinstance(self.stopping, AshaSettings) else 0
        if grace > len(self.cycle_ends):
            raise ValueError(f"stopping.grace_cycles is {grace}; there are {len(self.cycle_ends)} cycles")
        return self
