"""A trial again, in this process, without a cluster, compared with what was recorded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from features.corpus import CorpusError
from features.generated import make_corpus
from orchestrator.config.experiment import Experiment
from orchestrator.config.loading import load
from orchestrator.config.reading import nearest
from orchestrator.errors import UserError
from orchestrator.report.schema import Results
from orchestrator.stages.computed import compute
from orchestrator.stages.context import Data
from orchestrator.stages.cuts import load_cuts, prepare
from orchestrator.stages.labels import source_of
from orchestrator.stages.search import Search, trial_task
from orchestrator.storage.runs import CONFIG, RESULTS, VERSIONS
from orchestrator.storage.store import STAGE, Store
from orchestrator.storage.typed import read_typed
from orchestrator.training.record import TRIALS, Training, of_cut
from orchestrator.training.rows import Row
from orchestrator.training.task import hardware, train
from orchestrator.versions import unlike, versions

COMPARED: tuple[Literal["loss", "accuracy", "log_loss"], ...] = ("loss", "accuracy", "log_loss")


def reproduce(
    store: Store, run: Path, trial: str | None, echo: Callable[[str], None], corpus: Path | None = None
) -> bool:
    """Repeat a trial of the run (default: the best) and print each epoch beside the recorded one.

    `corpus` is where the run's recordings are now. Returns whether every number is equal. Raises UserError where the
    recordings are not those of the run.
    """
    config, cuts, search = load_run(store, run, corpus=corpus)
    if search is None:
        raise UserError(f"{run} had no search, so it has no trial to repeat; run its config.yaml again in its stead")
    name = trial or search.best
    known = [row.trial for row in search.trials()]
    if name not in known:
        raise UserError(f"the run has no trial '{name}'{nearest(name, known)}; it has {', '.join(known)}")
    recorded = search.rows(name)
    if not recorded:
        reason = Training.read(search.folder / TRIALS / name).failure
        raise UserError(f"{name} has no epoch to compare with: {reason}")
    then, now = read_typed(dict[str, str], run / VERSIONS), versions()
    for what in unlike(then, now):
        echo(f"warning: {what} is {now.get(what)} here and was {then.get(what)}: numbers may differ")
    training = search.training(name)
    data = next(data for data in cuts if data.cut == training.cut)
    task = replace(trial_task(config, training), device=device_of(recorded))
    together = config.search.together if config.search else 1
    for caution in cautions(recorded, hardware(task.device), together):
        echo(f"warning: {caution}")
    echo(f"{name}: {len(recorded)} epochs")
    echo(f"{'epoch':>5}" + "".join(f"{column:>12}{'recorded':>12}" for column in COMPARED))
    differing = 0
    repeated = train(task, data.train, data.validation)
    for before, (row, _) in zip(recorded, repeated, strict=False):  # no epoch more than was recorded
        same = all(row[column] == before[column] for column in COMPARED)
        differing += not same
        numbers = "".join(f"{shown(row[column])}{shown(before[column])}" for column in COMPARED)
        echo(f"{row['epoch']:>5}{numbers}{'' if same else '   differs'}")
    echo(
        f"{differing} of {len(recorded)} epochs differ: another machine, version or number of threads?"
        if differing
        else "every number is equal"
    )
    return not differing


def cautions(recorded: Sequence[Row], here: str, together: int) -> Iterator[str]:
    """Why numbers may differ on the device `here`: another was recorded, it is a GPU, or others were trained beside."""
    for device in sorted({row.get("device", "cpu") for row in recorded} - {here}):
        yield f"trained on {device}, repeated on {here}: numbers may differ"
    if here != "cpu":
        yield f"{here} adds in no fixed order: numbers may differ in their last digits, and more with every epoch"
    if together > 1:
        yield "trained with others as one (search.together), here alone: numbers may differ, and more with every epoch"


def shown(value: float | None) -> str:
    """A number of the table; none where the epoch was not validated."""
    return f"{'-':>12}" if value is None else f"{value:>12.6f}"


def device_of(recorded: Sequence[Row]) -> str:
    """What to repeat a training on: a GPU where it was trained on one and there is one here."""
    return "cuda" if torch.cuda.is_available() and any(row.get("device", "cpu") != "cpu" for row in recorded) else "cpu"


def load_run(
    store: Store, run: Path, config: Experiment | None = None, corpus: Path | None = None
) -> tuple[Experiment, list[Data], Search | None]:
    """A finished run's config, its students' data with soft labels by cut, and its search, if it had one.

    Missing shards are computed again, and a generated corpus is made again. With `config`, the data are as it asks for
    them; with `corpus`, the recordings are there.

    Raises CorpusError where the recordings are not those of the run, UserError where there are none, or where the
    storage has not all that the run was made of.
    """
    results = Results.read(run / RESULTS)
    require_artifacts(store, run, results)
    config = config or load(str(run / CONFIG))
    if corpus is not None:
        config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"root": corpus})})
    if not config.corpus.root.is_dir():
        if config.corpus.generate is None:
            raise UserError(f"the run's recordings are not at {config.corpus.root}: give --corpus FOLDER")
        make_corpus(config.corpus.root, config.corpus.generate, config.seed)
    computed = compute(config, store, parallel=False)
    if computed.manifest.data_hash != results.corpus.data_hash:
        raise CorpusError(f"the recordings in {config.corpus.root} are not those of the run: their content differs")
    prepare(config, computed, store)
    cuts = load_cuts(config, computed, store)
    artifacts = {name: store.root / path for name, path in results.artifacts.items()}
    for folder in artifacts.values():
        store.pull(folder)
    teachers = {
        data.cut: {name: artifacts[of_cut(f"teacher-{name}", data.cut)] for name in config.labelling} for data in cuts
    }
    cuts = [data.for_student(config.student.copies) for data in cuts]
    search = Search.read(artifacts["search"]) if "search" in artifacts else None
    if config.labelling:
        cuts = [
            source_of(config).attach(config, data, artifacts[of_cut("labels", data.cut)], teachers) for data in cuts
        ]
    return config, cuts, search


def require_artifacts(store: Store, run: Path, results: Results) -> None:
    """Raises UserError where the storage lacks an artifact of the run, as where its folder alone was copied."""
    if absent := sorted(name for name in results.artifacts.values() if not store.has(store.root / name / STAGE)):
        raise UserError(
            f"{run} is not all that a trial is repeated from: {store.uri} has no {', '.join(absent)}; copy these from "
            f"the storage of the run, too, or make all again: stillhouse run {run / CONFIG}"
        )
