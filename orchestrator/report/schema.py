"""RUN/results.json, and that of a set of systems: the numbers of a run in one stable shape.

docs/results.md is made of these models (report/reference.py): a field's description is its documentation.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from features.corpus import leak_check
from orchestrator.config.reading import Strict
from orchestrator.storage.record import Record
from orchestrator.training.record import Settings
from orchestrator.training.rows import Metric

Decision = Literal["scene", "combined"]
Verdict = Literal["better", "worse", "no difference"]
SCHEMA = 4
TORCH, TFLITE = "torch", "tflite"  # keys of `models.student`: before export, and the file that the run is about


class Part(Strict):
    """Metrics of some clips."""

    accuracy: float = Field(description="of a class: share of its clips recognised; else the mean over classes of that")
    log_loss: float = Field(description="mean of -ln p(label)")
    clips: int = Field(description="number of clips")


class Report(Part):
    """Metrics of one model on the test split."""

    per_class: dict[str, Part] = Field(description="the same by scene; scenes without test clips are left out")
    per_device: dict[str, Part] = Field(description="the same by recording device; empty where the corpus names none")
    confusion: list[list[int]] = Field(
        description="counts; rows are labels, columns decisions, in the order of `scenes`"
    )

    @field_validator("confusion")
    @classmethod
    def _square(cls, rows: list[list[int]]) -> list[list[int]]:
        if any(len(row) != len(rows) for row in rows):
            raise ValueError("the rows are not as long as there are scenes")
        return rows


class NearCopy(Strict):
    """Two recordings in two splits that sound the same, by their features."""

    first: str = Field(description="path of the one")
    first_split: str = Field(description="its split")
    second: str = Field(description="path of the other")
    second_split: str = Field(description="its split")
    different: float = Field(description="share of different bits of their fingerprints; 0 is equal, 0.5 chance")


class Corpus(Strict):
    """What was trained and tested on."""

    root: str = Field(description="where the recordings were")
    generated: bool = Field(
        description="true: made by Stillhouse (`corpus.root` has a generated.json); accuracies mean nothing outside it"
    )
    data_hash: str = Field(description="hash of front end, paths and bytes")
    fit_on: tuple[str, ...] = Field(description="the splits that were trained on")
    clips: dict[str, int] = Field(description="clips by split")
    located: int | None = Field(
        None,
        description="clips whose recording location is known: of others it could not be checked that splits share "
        "none; null in older files",
    )
    copies: tuple[str, ...] = Field(description="kinds of extra copies made of the training clips")
    quarantine: dict[str, str] = Field(
        description='path -> reason it was left out, "path (kind)" for a copy that could not be made'
    )
    notes: dict[str, str] = Field(description="path -> what was done to it (resampled, tiled, ...)")
    near_copies: tuple[NearCopy, ...] = Field(default=(), description="recordings in two splits that sound the same")

    @property
    def leak_check(self) -> str:
        """What is known of locations in two splits, in words."""
        clips = sum(self.clips.values())
        return leak_check(clips if self.located is None else self.located, clips)


class Interval(Strict):
    """A difference of one metric, and how sure it is."""

    value: float = Field(description="the difference, the mean over seeds")
    low: float = Field(description="lower end of its 95 % interval")
    high: float = Field(description="upper end")
    verdict: Verdict = Field(
        description='of the first model: "better", "worse", or "no difference" where the interval holds 0'
    )


class Comparison(Strict):
    """Two models on the same clips: the first one's metrics minus the second's."""

    accuracy: Interval = Field(description="of the accuracies")
    log_loss: Interval = Field(description="of the log losses; below 0 the first is better")
    seeds: int = Field(description="trainings of each that were compared; of one alone the interval is of the clips")
    locations: int = Field(description="number of locations; they, and the seeds, are what the bootstrap draws")


class Seed(Strict):
    """Two students that were trained from the same initial weights, on the test split."""

    seed: int = Field(description="its number, from 0")
    distilled: Part | None = Field(description="with soft labels; null where there were none")
    plain: Part | None = Field(description="without")


class Models(Strict):
    """Reports on the test split."""

    student: dict[str, Report] = Field(
        description="the exported student, its weights rounded to fp16: `torch` before the export, then every exported "
        "format as the file was run (`onnx`, `tflite`)"
    )
    plain: Report | None = Field(
        description="the same student trained without soft labels, torch; null where `plain` is false, and where the "
        "student has no soft labels itself"
    )
    ensemble: Report | None = Field(description="the teachers together; null where there are none")
    teachers: dict[str, Report] = Field(description="each teacher alone; empty where there are none")
    seeds: tuple[Seed, ...] = Field(
        (), description="the final students of every seed, torch; `student` and `plain` are the best on validation"
    )
    distilled_minus_plain: Comparison | None = Field(
        None, description="what distillation changes; null where there is no plain student"
    )


class Complexity(Strict):
    """Of the folded student."""

    parameters: int = Field(description="number of parameters")
    non_zero: int = Field(description="those of them that are not zero")
    bytes: int = Field(description="2 x non-zero, the challenge's rule")
    macs: int = Field(description="multiply-accumulates of one clip")
    peak_activations: int | None = Field(
        None, description="values alive at once between layers while one clip runs; null in older files"
    )
    file_bytes: dict[str, int] = Field(
        description="by format, as the file lies on disk, graph included; `tflite_combined` is the combined decision's"
    )
    input_shape: tuple[int, int, int] = Field(description="(channel, mel, frame)")


class Export(Strict):
    largest_difference_from_torch: dict[str, dict[str, float]] = Field(
        description="by format and output: largest difference in probability over the test split"
    )
    seconds_per_clip: dict[str, float] = Field(description="by format: one thread, the file's own run alone")


class Validation(Strict):
    """Metrics on validation; null where everything was trained on."""

    accuracy: float | None = Field(description="macro-average accuracy on validation")
    log_loss: float | None = Field(description="mean of -ln p(label) on validation")


class Average(Strict):
    """How one training's snapshots became one set of weights."""

    kept: str = Field(description="the way that was best on validation")
    weights: dict[int, float] = Field(description="of the kept way: epoch -> weight")
    moving: bool = Field(False, description="whether they are of the cycles' moving averages")
    temperatures: tuple[float, float] = Field(
        (1.0, 1.0), description="by which the scene and the group logits were divided (student.calibrate)"
    )
    tried: dict[str, Validation] = Field(description="way -> metrics on validation")
    fp16: Validation = Field(description="the kept way's metrics, its weights rounded to fp16")


class Averages(Strict):
    distilled: Average | None = Field(
        None, description="of the student trained with soft labels; null where there were none: `plain` is the student"
    )
    plain: Average | None = Field(None, description="of the student trained without; null where there is none")


class BestTrial(Strict):
    name: str = Field(description="its name")
    settings: Settings = Field(description="what it changes of the student: setting -> value")
    validation: Validation = Field(description="metrics at its last cycle end")


class Candidate(Strict):
    """A recipe that the search compared at its end, on validation."""

    trial: str = Field(description="its name")
    accuracy: float = Field(description="at the last cycle end, mean over seeds")
    log_loss: float = Field(description="likewise")
    minus_default: Interval | None = Field(
        description="of the metric that selects: this one's minus the default's; null where the default failed"
    )
    wins: float = Field(description="how often it is the best candidate when locations and seeds are drawn again")
    distance: float = Field(description="from the student's own recipe, as a share of the space")


class Size(Strict):
    """A recipe of a search over several objectives."""

    trial: str = Field(description="its name")
    accuracy: float = Field(description="on validation, at its last cycle end")
    log_loss: float = Field(description="likewise")
    bytes: int = Field(description="of its weights in fp16")
    macs: int = Field(description="multiply-accumulates of one clip")
    peak: int = Field(description="values alive at once between layers, of one clip")
    on_front: bool = Field(description="whether no other is as good in all objectives and better in one")


class Searched(Strict):
    """What the search chose between."""

    seeds: int = Field(description="trainings of each candidate: of the last round, or 1 where there was none")
    candidates: tuple[Candidate, ...] = Field(
        description="the student's own recipe (default), the one without teachers (plain) and the best trials"
    )
    objectives: tuple[str, ...] = Field((), description="what was searched over; empty in older files")
    sizes: tuple[Size, ...] = Field(
        (), description="recipes that were trained to their end; empty where there was one objective"
    )


class Results(Record):
    """Everything of a finished run that scripts may rely on. Metrics are of the test split, by the run's `decision`."""

    oldest: ClassVar[int] = 1  # had an ensemble always; otherwise the same
    newest: ClassVar[int] = SCHEMA

    name: str = Field(description="the experiment's name")
    seed: int = Field(description="its seed")
    decision: Decision = Field(
        description='"scene": the scene classifier; "combined": each scene\'s probability times its group\'s, '
        "renormalised"
    )
    select_by: Metric = Field(description="what trials and averages were judged by on validation")
    distilled: bool = Field(True, description="whether the student was trained with soft labels")
    label_temperatures: tuple[float, float] | None = Field(
        None,
        description="by which the teachers' log-scores of scenes and groups were divided (calibrate_teachers); null "
        "where there were no soft labels, and in older files",
    )
    refit_of: str | None = Field(
        None, description="the run whose choices this one takes, of `stillhouse refit`; else null"
    )
    finished: str = Field(description="when the results were written, UTC")
    corpus: Corpus = Field(description="the recordings")
    scenes: tuple[str, ...] = Field(description="in the order of every vector and matrix")
    groups: dict[str, tuple[str, ...]] = Field(description="group -> scenes; empty where scenes have no groups")
    models: Models | None = Field(description="reports on the test split; null where everything was trained on")
    complexity: Complexity = Field(description="size and cost of the student")
    export: Export = Field(description="the exported files against torch")
    averages: Averages = Field(description="how snapshots were averaged")
    best_trial: BestTrial | None = Field(description="that the search chose; null where there was no search")
    search: Searched | None = Field(None, description="why; null where there was no search, and in older files")
    seconds: dict[str, float] = Field(
        description="by stage: wall time, over all interruptions; teachers and trials run side by side"
    )
    paths: dict[str, str] = Field(
        description="relative to RUN: tflite, tflite_combined (with groups), onnx, safetensors, trials, metrics, report"
    )
    artifacts: dict[str, str] = Field(
        description="relative to the storage, what the run was made of: features, teacher-NAME, labels, search, final; "
        "teachers and labels of another cut of the recordings have its name before theirs, such as fold2-labels"
    )

    @property
    def product(self) -> Report | None:
        """The report of the file that the run is about."""
        return self.models.student[TFLITE] if self.models else None

    @property
    def average(self) -> Average:
        """How the exported student's snapshots were averaged."""
        found = self.averages.distilled or self.averages.plain
        assert found is not None
        return found

    @property
    def teachers(self) -> list[str]:
        """Names of the teachers that labelled."""
        return [name.removeprefix("teacher-") for name in self.artifacts if name.startswith("teacher-")]


class SystemResult(Strict):
    """One experiment of a set."""

    run: str = Field(description="its run's folder, in the same storage")
    name: str = Field(description="the experiment's name")
    decision: Decision = Field(description="how its model is read")
    tflite: Report = Field(description="of its TFLite file")
    bytes: int = Field(description="by the challenge's rule")
    file_bytes: int = Field(description="of the TFLite file on disk")
    artifact: str = Field(description="its final student in the storage; equal for systems that are one model")


class Systems(Record):
    """The results.json of several experiments run as one: a table of their TFLite files."""

    oldest: ClassVar[int] = 1
    newest: ClassVar[int] = 1

    name: str = Field(description="name of the set")
    corpus: Corpus = Field(description="of the first system")
    scenes: tuple[str, ...] = Field(description="in the order of every vector and matrix")
    systems: dict[str, SystemResult] = Field(description="label -> system")
