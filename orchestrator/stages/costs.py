"""What a student costs before it is trained, and the limits that refuse it."""

from dataclasses import asdict, dataclass
from functools import cache

from features.settings import CHANNELS, CONTEXT
from models import complexity
from models.families import FAMILIES
from models.seeding import seeded
from models.specs import BYTES_PER_PARAMETER, LARGEST, Spec
from orchestrator.config.experiment import Experiment
from orchestrator.config.search import Cost, Limits
from orchestrator.config.trained import StudentSettings
from orchestrator.errors import UserError


@dataclass(frozen=True)
class Costs:
    """Of the folded student, and of one clip."""

    bytes: int  # in fp16, of every weight: which ones training leaves at zero is not known yet
    macs: int  # multiply-accumulates
    peak: int  # values alive at once between layers

    def of(self, cost: Cost) -> int:
        return getattr(self, cost)


def costs_of(config: Experiment, student: StudentSettings) -> Costs:
    """Exact and the same on every machine; a student of the same model has the same."""
    taxonomy, features = config.corpus.taxonomy, config.features
    shape = (CHANNELS, features.n_mels, features.frames - 2 * CONTEXT)
    return measured(student.model, len(taxonomy.scenes), len(taxonomy.groups), shape)


@cache
def measured(spec: Spec, scenes: int, groups: int, shape: tuple[int, int, int]) -> Costs:
    with seeded(0, "costs"):
        model = FAMILIES.implementation(spec)(spec, channels=CHANNELS, scenes=scenes, groups=groups)
    model.fold()
    found = complexity.measure(model, shape)
    return Costs(found.parameters * BYTES_PER_PARAMETER, found.macs, found.peak_activations)


def excess(config: Experiment, student: StudentSettings) -> str | None:
    """Which limit a student breaks, in words; None where it keeps all. The challenge's bytes are always one."""
    limits = config.search.limits if config.search else Limits()
    highest = {name: value for name, value in asdict(limits).items() if value is not None}
    highest["bytes"] = min(highest.get("bytes", LARGEST), LARGEST)
    costs = costs_of(config, student)
    for name, most in highest.items():
        if getattr(costs, name) > most:
            return f"{getattr(costs, name):,} {UNITS[name]}, and at most {most:,} are allowed"
    return None


UNITS = {"bytes": "bytes in fp16", "macs": "multiply-accumulates a clip", "peak": "activations alive at once"}


def require_within_limits(config: Experiment) -> None:
    """Raise UserError where the experiment's own student breaks a limit, before anything is computed."""
    broken = excess(config, config.student)
    if broken:
        raise UserError(f"the student has {broken}: lower student.model's widths ({config.student.model})")
