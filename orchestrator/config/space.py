"""What a search varies: each setting's range or choices."""

from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from orchestrator.config.reading import Strict


class Range(Strict):
    """A continuous or integer setting between two bounds, both included."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """Raise ValueError where the range is none."""
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("needs low < high, and low > 0 where log is true")
        return self


class Choices(Strict):
    """Values of which one is drawn."""

    choices: tuple[Any, ...] = Field(min_length=1)


def kind_of_domain(value: Any) -> str:
    """Which of the kinds of domains a value of search.space is meant as."""
    return "[choices]" if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value) else "[range]"


# Tags in brackets are no part of a setting's name (reading.py: explain).
Domain = Annotated[
    Annotated[Range, Tag("[range]")] | Annotated[Choices, Tag("[choices]")], Discriminator(kind_of_domain)
]


SPACE: dict[str, Range | Choices] = {
    "recipe.scene_weight": Range(low=0.5, high=1.0),
    "recipe.soft_weight": Range(low=0.0, high=1.0),
    "recipe.temperature": Range(low=0.25, high=8.0, log=True),
    "recipe.mixup_alpha": Range(low=0.1, high=0.6),
}
