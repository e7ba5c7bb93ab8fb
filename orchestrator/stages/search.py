"""The search: many student trials over recipes; Optuna proposes, ASHA stops the worse ones at cycle ends."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from models.seeding import derive
from models.specs import LARGEST
from orchestrator.config.experiment import Experiment, StudentSettings, apply_settings
from orchestrator.config.keys import key_of
from orchestrator.config.space import SAMPLERS, STOPPING
from orchestrator.errors import UserError
from orchestrator.monitor.view import Bar
from orchestrator.stages.context import Context, Data, announce_restart, basis, published, record
from orchestrator.stages.proposals import STUDY, Proposals, study_of, write_study
from orchestrator.stages.tuning import Plan, Recorder, run_trials
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.runs import TRIALS_TABLE
from orchestrator.storage.work import Work, working
from orchestrator.training.best import standing_of, winner
from orchestrator.training.journal import keep_trial, trials_in
from orchestrator.training.record import FINISHED, RUNNING, TRIALS, Settings, Training, Trial, rows_of
from orchestrator.training.rows import Row
from orchestrator.training.table import TrialRow, read_trials, write_trials
from orchestrator.training.task import Task, entries_of, train


@dataclass(frozen=True)
class Search:
    """The search's result as later stages and reports use it."""

    folder: Path
    best: str  # name of the best trial
    settings: Settings

    @classmethod
    def read(cls, folder: Path) -> "Search":
        values = read_json(folder / "best.json")
        return cls(folder, values["trial"], values["settings"])

    def trials(self) -> list[TrialRow]:
        return read_trials(self.folder / TRIALS_TABLE)

    def settings_of(self, trial: str) -> Settings:
        return Training.read(self.folder / TRIALS / trial).settings

    def rows(self, trial: str) -> list[Row]:
        return rows_of(self.folder / TRIALS / trial)


def student_task(config: Experiment, student: StudentSettings) -> Task:
    """Every student starts from the same seed, so that trials differ by their settings alone."""
    return Task(
        model=student.model,
        recipe=student.recipe,
        seed=derive(config.seed, "student"),
        taxonomy=config.corpus.taxonomy,
        decision=config.judged,
        copies=student.copies,
        largest=LARGEST,
        ensemble_of=config.ensemble_of,
        threads=config.resources.cpus_per_trial,
    )


def trial_task(config: Experiment, settings: Settings) -> Task:
    return student_task(config, config.search_recipe(settings))


def run(context: Context, data: Data, labels: Path | None) -> Search | None:
    """Search recipes; None where the experiment has no search."""
    config, store, search = context.config, context.store, context.config.search
    if search is None:
        return None
    key = key_for(config, data, labels.name if labels else None)
    folder = store.finished("search", key)
    if folder is not None:
        found = Search.read(folder)
        context.view.reused("search", f"best is {found.best}", [folder])
        return found
    announce_restart(context, "search", "search", key)
    with context.view.stage("search") as bar, working(store, "search", key, bar.wait, bar.so_far) as work:
        if store.finished("search", key) is None:  # another run may just have finished it
            bar.made_in(work.folder)
            train_missing(context, data, work, bar)
            publish(context, key, work, bar)
        bar.made_in(published(store, "search", key))
        work.discard()
    return Search.read(published(store, "search", key))


def key_for(config: Experiment, data: Data, labels: str | None) -> str:
    """The search artifact's key; `labels` is the key of the soft labels, if there are any."""
    search = config.search
    assert search is not None
    entries = entries_of(student_task(config, config.student))
    entries += [SAMPLERS.find(SAMPLERS.name_of(search.sampler)).implementation]
    entries += [STOPPING.find(STOPPING.name_of(search.stopping)).implementation]
    code = basis(train, trial_task, apply_settings, Proposals, study_of, choose, winner, *entries)
    parts = (search, trial_task(config, {}), config.student.labels, config.select_by, config.seed)
    return key_of(code, *parts, labels, data.key)


def train_missing(context: Context, data: Data, work: Work, bar: Bar) -> None:
    """Run the trials that have not ended."""
    config, search = context.config, context.config.search
    assert search is not None
    recorded = trials_in(work.folder)
    ended = [trial for trial in recorded if trial.training.state != RUNNING]
    interrupted = [trial for trial in recorded if trial.training.state == RUNNING]
    left = search.trials - len(ended)
    if not left:
        return
    plan = plan_of(context, work.folder)
    stopping: Any = STOPPING.implementation(search.stopping)(search.stopping, config)
    run_trials(
        plan,
        Recorder(plan, bar, search.trials, search.cycle_ends[-1], ended, interrupted),
        data.train,
        data.validation,
        config.resources,
        num_samples=left,
        search_alg=Proposals(config, recorded, stopping),
        scheduler=stopping,
    )
    context.store.pull(work.folder)


def publish(context: Context, key: str, work: Work, bar: Bar) -> None:
    """Choose the best trial and keep what is worth keeping of all."""
    config, trials = context.config, trials_in(work.folder)
    best = choose(trials, config)
    reached = standing_of(best)  # which is what it was chosen by
    assert reached is not None
    full = sum(trial.training.state == FINISHED for trial in trials)
    metrics = f"{reached.accuracy:.3f} / {reached.log_loss:.3f}"
    bar.about(f"{len(trials)} trials, {full} to the end; best {best.name}: {metrics}")
    with context.store.publish("search", key) as target:
        for trial in trials:
            keep_trial(work.folder, trial.name, target)
        write_json(target / "best.json", {"trial": best.name, "settings": best.training.settings})
        write_trials(target / TRIALS_TABLE, [TrialRow.of(trial) for trial in trials])
        write_study(target / STUDY, study_of(config, trials), f"{config.name}-{key}")
        record(target, work.seconds, trials=len(trials))


def plan_of(context: Context, work: Path) -> Plan:
    """What the search's trials have in common."""
    config = context.config
    return Plan(
        context.run,
        context.store,
        work,
        partial(trial_task, config),
        no_snapshots,
        config.select_by,
    )


def no_snapshots(_settings: Settings) -> tuple[int, ...]:
    """Of students in the search none is needed later: the recipe is trained again, over the full schedule."""
    return ()


def choose(trials: list[Trial], config: Experiment) -> Trial:
    """The best trial (training/best.py). Raises UserError where none has a finite result."""
    best = winner(map(standing_of, trials), config.select_by)
    if best is None:
        reasons = sorted({trial.training.failure or "no finite result" for trial in trials})
        raise UserError(f"every trial failed; the first reason: {reasons[0]}")
    return next(trial for trial in trials if trial.name == best.trial)
