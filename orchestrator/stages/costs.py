"""What a student costs before it is trained, and the limits that refuse it."""

from functools import cache

from features.settings import CHANNELS, CONTEXT
from models.complexity import Complexity, measure, stored_parameters
from models.families import FAMILIES
from models.scene_model import SceneModel
from models.seeding import seeded
from models.specs import BYTES_PER_PARAMETER, Spec
from orchestrator.config.experiment import Experiment
from orchestrator.config.limits import COSTS, Cost
from orchestrator.config.trained import StudentSettings
from orchestrator.errors import UserError


def cost_of(config: Experiment, student: StudentSettings, cost: Cost) -> int:
    """Of the folded student. Exact and the same on every machine; students of the same model have the same.

    `bytes` are those of every weight in fp16: which ones training leaves at zero is not known yet. `macs` are
    multiply-accumulates of one clip, `peak` the values alive at once between its layers.
    """
    taxonomy, features = config.corpus.taxonomy, config.features
    scenes, groups = len(taxonomy.scenes), len(taxonomy.groups)
    if cost == "bytes":
        stored = stored_parameters(folded(student.model, scenes, groups))
        return BYTES_PER_PARAMETER * sum(value.numel() for value in stored)
    shape = (CHANNELS, features.n_mels, features.frames - 2 * CONTEXT)
    found = measured(student.model, scenes, groups, shape)
    return found.macs if cost == "macs" else found.peak_activations


@cache
def folded(spec: Spec, scenes: int, groups: int) -> SceneModel:
    with seeded(0, "costs"):
        model = FAMILIES.implementation(spec)(spec, channels=CHANNELS, scenes=scenes, groups=groups)
    model.fold()
    return model


@cache
def measured(spec: Spec, scenes: int, groups: int, shape: tuple[int, int, int]) -> Complexity:
    """Runs the model once, which takes a second or two."""
    return measure(folded(spec, scenes, groups), shape)


def excess(config: Experiment, student: StudentSettings) -> str | None:
    """Which limit a student breaks, in words; None where it keeps all."""
    for name in COSTS:
        most: int | None = getattr(config.limits, name)
        if most is not None and (own := cost_of(config, student, name)) > most:
            return f"{own:,} {UNITS[name]}, and at most {most:,} are allowed"
    return None


UNITS = {"bytes": "bytes in fp16", "macs": "multiply-accumulates a clip", "peak": "activations alive at once"}


def require_within_limits(config: Experiment) -> None:
    """Raise UserError where the experiment's own student breaks a limit, before anything is computed."""
    broken = excess(config, config.student)
    if broken:
        raise UserError(
            f"the student has {broken}: lower student.model's widths ({config.student.model}), or set other limits"
        )
