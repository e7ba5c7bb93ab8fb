"""What a search varies: the settings' ranges and choices, and how many trials, how long, may try them."""

from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from orchestrator.config.reading import Strict


class Range(Strict):
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


class SearchSettings(Strict):
    """Students over recipes: Optuna proposes, ASHA stops the worse ones at cycle ends."""

    trials: Annotated[int, Field(ge=1)] = 16
    cycle_ends: tuple[int, ...]  # each trial's schedule, shorter than the final one
    reduction_factor: Annotated[int, Field(ge=2)] = 2  # ASHA keeps one in so many at each cycle end
    grace_cycles: Annotated[int, Field(ge=1)] = 1  # a trial is not judged before the end of this cycle
    space: dict[str, Domain] = Field(SPACE)
