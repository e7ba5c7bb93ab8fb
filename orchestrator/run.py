"""The stages in order, what is done and what is next, and the run's folder."""

import csv
import logging
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from features.corpus import CorpusError
from features.generated import generated_from
from features.precompute import Manifest
from orchestrator.cluster.connection import connected
from orchestrator.cluster.preflight import preflight
from orchestrator.config.experiment import Experiment, to_yaml
from orchestrator.config.keys import folder_name
from orchestrator.errors import Until, UserError
from orchestrator.export.formats import COMBINED, OUTPUTS
from orchestrator.monitor.status import About, Status
from orchestrator.monitor.view import View
from orchestrator.report.collect import Made, collect
from orchestrator.report.formats import outcome_of
from orchestrator.report.schema import Results
from orchestrator.report.terminal import summarise
from orchestrator.stages import corpus, features, final, labels, teachers
from orchestrator.stages import search as search_stage
from orchestrator.stages.context import Context, Data, seconds_of
from orchestrator.stages.costs import require_within_limits
from orchestrator.stages.cuts import load_cuts
from orchestrator.stages.final_actor import COMBINED_TFLITE, TFLITE
from orchestrator.stages.search import Search
from orchestrator.storage.files import append_line, write_json
from orchestrator.storage.remote import hurried
from orchestrator.storage.runs import (
    CONFIG,
    LOG,
    METRICS,
    MODELS,
    QUARANTINE,
    RESULTS,
    TENSORBOARD,
    TRIALS_TABLE,
    VERSIONS,
)
from orchestrator.storage.store import LEASE, Store, Wanted
from orchestrator.storage.work import running
from orchestrator.training.journal import trials_in
from orchestrator.training.record import of_cut
from orchestrator.training.rows import STAGES
from orchestrator.versions import versions


@dataclass(frozen=True)
class Artifacts:
    """What the stages have made, as folders in the storage."""

    data: Data
    manifest: Manifest
    search: Search | None
    teachers: dict[str, Path]  # of all cuts of the recordings
    others: dict[str, Path]  # the others

    @property
    def folders(self) -> dict[str, Path]:
        """All of them, by name."""
        return self.others | self.teachers

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by stage; teachers run side by side."""
        seconds = {name: seconds_of(path) for name, path in self.others.items()}
        if self.teachers:
            seconds["teachers"] = max(map(seconds_of, self.teachers.values()))
        seconds["labels"] = sum(taken for name, taken in seconds.items() if name.endswith("labels"))
        return {name: seconds[name] for name in STAGES if seconds.get(name)}


def run_folder(config: Experiment, store: Store) -> Path:
    """The same config has the same folder, which is how a second start finds what the first one did."""
    return store.root / folder_name(config.name, config)


def run(config: Experiment, store: Store, view: View, until: str | None = None) -> Path:
    """Run every stage that is not finished, or those up to `until`; return the run folder.

    Raises UserError, CorpusError.
    """
    if until not in (None, *(known := stages_of(config))):
        raise UserError(f"--until {until}: this experiment has the stages {', '.join(known)}")
    store.check_writable()
    folder = run_folder(config, store)
    folder.mkdir(parents=True, exist_ok=True)
    status = view.status = Status(store, folder, stages_of(config), about(config))
    with running(store, folder):
        store.pull(folder, wanted=written_by_driver(folder))
        if until is not None and (folder / RESULTS).exists():  # whose status stays that of a finished run
            view.line(f"{config.name}: {store.address(folder)} is finished already, {until} with it")
            return folder
        is_new = not (folder / CONFIG).exists()
        try:
            with suppress(Until), status, log_in(store, folder):
                results = run_in(folder, config, store, view, until)
                summarise(config, results, view)
        except (UserError, CorpusError):
            if is_new and not status.has_begun:  # nothing of it is worth keeping: its line is in the terminal
                with hurried(), suppress(OSError):
                    store.remove(folder, keep=LEASE)
            raise
    return folder


def run_in(folder: Path, config: Experiment, store: Store, view: View, until: str | None) -> Results:
    """All of a run, in its folder; returns results.json. Raises Until after the stage of that name."""
    record = folder / VERSIONS
    (folder / CONFIG).write_text(to_yaml(config))
    write_json(record, versions())
    store.push(folder / CONFIG)
    store.push(record)
    store.tell = view.line
    context = Context(config, store, view, folder.name)
    corpus.run_corpus(context)
    stop_after("corpus", until, view)
    clips = corpus.check(config)  # a bad corpus is reported before a cluster is started
    for line in (*corpus.left_out(config), corpus.unchecked(config, clips)):
        if line:
            context.view.line(f"corpus: {line}")
    require_within_limits(config)
    view.line(f"{config.name}: {store.address(folder)}")
    with connected() as dashboard:
        if dashboard:
            view.line(f"  {dashboard}")
        view.line(f"  live page: stillhouse watch {shlex.quote(store.address(folder))}")
        preflight(config, store, clips)
        made = run_stages(context, folder, until)
    results = write_run(folder, config, store, made)
    if view.status and results.models and results.models.distilled_minus_plain:
        view.status.outcome = outcome_of(results.models.distilled_minus_plain)
    store.push(folder, written_by_driver(folder))
    return results


def written_by_driver(folder: Path) -> Wanted:
    """Of a run's files, those that the driver writes: the trainings' events are written where these train."""
    return lambda file: TENSORBOARD not in file.relative_to(folder).parts


def stages_of(config: Experiment) -> list[str]:
    """The stages that this experiment has."""
    corpus = ["corpus"] if config.corpus.generate else []
    absent = {"teachers", "labels"} if not config.teachers else set()
    absent |= {"search"} if config.search is None else set()
    return [*corpus, *(name for name in STAGES if name not in absent)]


def about(config: Experiment) -> About:
    """What watchers know of a run from the start."""
    corpus = config.corpus
    return About(
        name=config.name,
        run=folder_name(config.name, config),
        select_by=config.select_by,
        generated=corpus.generate is not None or generated_from(corpus.root) is not None,
    )


def stop_after(stage: str, until: str | None, view: View) -> None:
    """Raise Until where the run is to end with that stage."""
    if stage == until:
        view.line(f"as asked, the run ends here, after {stage}; without --until the same command goes on")
        raise Until


def run_stages(context: Context, folder: Path, until: str | None) -> Artifacts:
    """Run all stages in order; the artifacts that the report is made of. Raises Until after the stage of that name."""
    config, store = context.config, context.store
    computed, features_folder = features.run(context)
    write_quarantine(folder / QUARANTINE, computed.quarantine)
    stop_after("features", until, context.view)
    cuts = load_cuts(config, computed, store)
    teacher_folders = teachers.run(context, labels.cuts_of(config, cuts))
    stop_after("teachers", until, context.view)
    labelled = [labels.run(context, cut, teacher_folders) for cut in cuts]
    stop_after("labels", until, context.view)
    (data, labels_folder), own_teachers = labelled[0], teacher_folders[cuts[0].cut]
    folds = [(cut, folder) for cut, folder in labelled if cut.cut in config.search_cuts]
    found = search_stage.run(context, [cut for cut, _ in folds], [folder for _, folder in folds if folder])
    if context.view.status and found:
        context.view.status.best = found.best
    stop_after("search", until, context.view)
    final_folder = final.run(context, data, own_teachers, labels_folder, found)
    others = {"features": features_folder, "final": final_folder}
    others |= {of_cut("labels", cut.cut): folder for cut, folder in labelled if folder}
    others |= {"search": found.folder} if found else {}
    named = {
        of_cut(f"teacher-{name}", cut): folder
        for cut, folders in teacher_folders.items()
        for name, folder in folders.items()
    }
    return Artifacts(data, computed.manifest, found, named, others)


def write_run(folder: Path, config: Experiment, store: Store, made: Artifacts) -> Results:
    """Everything that the run's folder explains itself by; returns results.json."""
    from orchestrator.report.build import write_model_card, write_report

    write_models(folder / MODELS, config, made.data, made.others["final"])
    if made.search is not None:
        shutil.copy(made.search.folder / TRIALS_TABLE, folder / TRIALS_TABLE)
    write_metrics(folder / METRICS, made)
    names = {name: store.name(path) for name, path in made.folders.items()}
    features_folder, final_folder = made.others["features"], made.others["final"]
    results = collect(
        config, Made(made.data, made.manifest, made.search, features_folder, final_folder, made.seconds, names)
    )
    results.write(folder / RESULTS)
    write_report(folder)
    write_model_card(folder)
    return results


def write_models(folder: Path, config: Experiment, data: Data, final_folder: Path) -> None:
    """The exported files, each with what `predict` has to know of it beside it."""
    folder.mkdir(exist_ok=True)
    taxonomy = config.corpus.taxonomy
    facts = {
        "front_end": asdict(config.features),
        "test_shifts": config.test_shifts,
        "decision": config.decision,
        "responses": data.responses,
        **asdict(taxonomy),
    }
    for file in final_folder.glob("student*"):
        shutil.copy(file, folder / file.name)
    write_json((folder / TFLITE).with_suffix(".json"), {"outputs": OUTPUTS if taxonomy.groups else COMBINED, **facts})
    if (folder / COMBINED_TFLITE).exists():
        write_json((folder / COMBINED_TFLITE).with_suffix(".json"), {**facts, "outputs": COMBINED, "decision": "scene"})


def write_quarantine(path: Path, quarantine: dict[str, str]) -> None:
    """What was left out, and why."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "reason"), *quarantine.items()])


def write_metrics(path: Path, made: Artifacts) -> None:
    """Every epoch of every training as JSON lines: stage, trial, then the epoch's row."""
    path.unlink(missing_ok=True)
    for folder in (*made.teachers.values(), *([made.search.folder] if made.search else []), made.others["final"]):
        for trial in trials_in(folder):
            for row in trial.rows:
                append_line(path, {"stage": trial.training.stage, "trial": trial.name, **row})


@contextmanager
def log_in(store: Store, folder: Path) -> Iterator[None]:
    """Send our own log to the run's folder, and that to the storage, however the run ends."""
    complaining, logging.raiseExceptions = logging.raiseExceptions, False  # a full disk is reported once, elsewhere
    handler = logging.FileHandler(folder / LOG)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("stillhouse")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        logging.raiseExceptions = complaining
        with suppress(OSError):
            handler.close()
        with hurried(), suppress(OSError):
            for name in (LOG, QUARANTINE):
                if (folder / name).exists():
                    store.push(folder / name)
