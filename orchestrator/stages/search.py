"""The search: many student trials over recipes, then a last round of the best ones (docs/search.md)."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from models.seeding import derive
from orchestrator.config.experiment import Experiment
from orchestrator.config.keys import key_of
from orchestrator.config.search import SAMPLERS, STOPPING
from orchestrator.config.trained import StudentSettings, apply_settings
from orchestrator.monitor.view import Bar
from orchestrator.stages.choice import Evidence, choose, wins_of
from orchestrator.stages.context import Context, Data, announce_restart, basis, published, record
from orchestrator.stages.labels import attached_by
from orchestrator.stages.proposals import Proposals
from orchestrator.stages.recorder import Recorder
from orchestrator.stages.rounds import Rounds, fixed_recipes, is_whole
from orchestrator.stages.sizes import Sized, sizes_of
from orchestrator.stages.stopping import StoppingRule
from orchestrator.stages.study import STUDY, study_of, write_study
from orchestrator.stages.trainable import Plan
from orchestrator.stages.tuning import run_trials, until_ended
from orchestrator.stages.verdicts import Verdicts
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.runs import TRIALS_TABLE
from orchestrator.storage.work import Work, working
from orchestrator.training.journal import fetch, keep_trial, trials_in
from orchestrator.training.mending import mend
from orchestrator.training.paired import Difference, clips_of
from orchestrator.training.record import (
    FINISHED,
    LATEST,
    RUNNING,
    TRIALS,
    Settings,
    Training,
    Trial,
    rows_of,
)
from orchestrator.training.rows import Row
from orchestrator.training.table import TrialRow, read_trials, write_trials
from orchestrator.training.task import Task, entries_of, train

CHOSEN = "best.json"


@dataclass(frozen=True)
class Search:
    """The search's result as later stages and reports use it."""

    folder: Path
    best: str  # name of the best trial
    settings: Settings

    @classmethod
    def read(cls, folder: Path) -> "Search":
        """From a finished artifact."""
        values = read_json(folder / CHOSEN)
        return cls(folder, values["trial"], values["settings"])

    def evidence(self) -> list[Evidence]:
        """How the candidates compare."""
        found = read_json(self.folder / CHOSEN)["evidence"]
        return [
            Evidence(**{**one, "to_default": one["to_default"] and Difference(**one["to_default"])}) for one in found
        ]

    def sizes(self) -> list[Sized]:
        """What the recipes cost and reached, where the search had several objectives."""
        return [Sized(**one) for one in read_json(self.folder / CHOSEN)["sizes"]]

    def trials(self) -> list[TrialRow]:
        """The table of all trainings."""
        return read_trials(self.folder / TRIALS_TABLE)

    def training(self, trial: str) -> Training:
        """The record of the training of that name."""
        return Training.read(self.folder / TRIALS / trial)

    def kept(self) -> list[Path]:
        """The journals whose last snapshot is kept: a final training can go on from it."""
        return sorted(file.parent for file in self.folder.glob(f"{TRIALS}/*/{LATEST}"))

    def rows(self, trial: str) -> list[Row]:
        """The epochs of the training of that name."""
        return rows_of(self.folder / TRIALS / trial)


def student_task(config: Experiment, student: StudentSettings, seed: int = 0) -> Task:
    """Trials start from the same seed, 0, so that they differ by their settings alone; finalists have others, too."""
    return Task(
        model=student.model,
        recipe=student.recipe,
        seed=derive(config.seed, "student", seed) if seed else derive(config.seed, "student"),
        taxonomy=config.corpus.taxonomy,
        decision=config.judged,
        copies=student.copies,
        ensemble_of=config.ensemble_of,
        threads=config.resources.cpus_per_trial,
        mean_over=config.mean_over,
    )


def trial_task(config: Experiment, training: Training) -> Task:
    """What a training of the search trains."""
    return student_task(config, config.search_recipe(training.settings), training.seed)


def run(context: Context, folds: Sequence[Data], labels: Sequence[Path]) -> Search | None:
    """Search recipes; None where the experiment has no search. `labels` are the folds' soft labels, if any."""
    config, store, search = context.config, context.store, context.config.search
    if search is None:
        return None
    key = key_for(config, folds, [folder.name for folder in labels])
    folder = store.finished("search", key)
    if folder is not None:
        found = Search.read(folder)
        context.view.reused("search", f"best is {found.best}", [folder])
        return found
    announce_restart(context, "search", key)
    with context.view.stage("search") as bar, working(store, "search", key, bar.wait, bar.so_far, fetch) as work:
        if store.finished("search", key) is None:  # another run may just have finished it
            bar.made_in(work.folder)
            mend(store, work.folder)
            until_ended(lambda: train_missing(context, folds, work, bar), store, work.folder)
            publish(context, folds, key, work, bar)
        bar.made_in(published(store, "search", key))
        work.discard()
    return Search.read(published(store, "search", key))


def key_for(config: Experiment, folds: Sequence[Data], labels: Sequence[str]) -> str:
    """The search artifact's key; `labels` are the keys of the folds' soft labels, if there are any."""
    search = config.search
    assert search is not None
    entries = entries_of(student_task(config, config.student))
    entries += [SAMPLERS.find(SAMPLERS.name_of(search.sampler)).implementation]
    entries += [STOPPING.find(STOPPING.name_of(search.stopping)).implementation]
    entries += ["models.together:Together"] if search.together > 1 else []
    code = basis(train, trial_task, apply_settings, Rounds, Verdicts, choose, sizes_of, *entries, *attached_by(config))
    task = student_task(config, config.search_recipe({}))
    parts = (search, config.limits, task, config.student.labels, config.select_by)
    return key_of(code, *parts, config.seed, labels, [data.key for data in folds])


def verdicts_of(config: Experiment) -> Verdicts:
    """The verdicts of a search that has not begun. Default recipe, plain one and finalists are never stopped."""
    search = config.search
    assert search is not None
    rule: StoppingRule = STOPPING.implementation(search.stopping)(search.stopping)
    fixed = len(fixed_recipes(config))
    return Verdicts(rule, search.cycle_ends, config.select_by, lambda number: number <= fixed or number > search.trials)


def recalled(config: Experiment, recorded: Iterable[Trial]) -> Verdicts:
    """The verdicts as of what is recorded."""
    verdicts = verdicts_of(config)
    for trial in recorded:
        verdicts.enter(trial.training, trial.rows)
    return verdicts


def train_missing(context: Context, folds: Sequence[Data], work: Work, bar: Bar) -> None:
    """Run the trials that have not ended."""
    config, search = context.config, context.config.search
    assert search is not None
    recorded = trials_in(work.folder)
    verdicts = recalled(config, recorded)
    rounds = Rounds(config, verdicts)
    ended = sum(trial.training.state != RUNNING for trial in recorded)
    if ended == rounds.total:
        return
    plan = plan_of(context, work.folder)
    run_trials(
        plan,
        verdicts,
        Recorder(plan, bar, verdicts, lambda: rounds.total, search.cycle_ends[-1]),
        folds,
        config.resources,
        num_samples=rounds.total - ended,
        search_alg=Proposals(rounds, recorded),
    )
    fetch(context.store, work.folder)


def publish(context: Context, folds: Sequence[Data], key: str, work: Work, bar: Bar) -> None:
    """Choose the best trial and keep what is worth keeping of all."""
    config, recorded = context.config, trials_in(work.folder)
    verdicts = recalled(config, recorded)
    trials = [verdicts.counted(trial) for trial in recorded]
    clips = clips_of(*(data.validation for data in folds))
    best, evidence = choose(config, trials, clips, work.folder)
    full = sum(trial.training.state == FINISHED for trial in trials)
    reached = next(one for one in evidence if one.trial == best.name)
    metrics = f"{reached.accuracy:.3f} / {reached.log_loss:.3f}"
    own, *plain = fixed_recipes(config).values()
    chosen = f"{best.name}: {metrics}{difference(best.training.settings, own)}"
    bar.about(f"{len(trials)} trainings, {full} to the end; chosen {chosen}")
    shares = wins_of(config, trials, clips, work.folder)
    # The final stage trains the chosen recipe on; the plain one, too, where that differs from it by the teachers alone.
    begins = [best.training.settings, *(plain if best.training.settings == own else ())]
    with context.store.publish("search", key) as target:
        for trial in trials:
            keep_trial(work.folder, trial, target)
            if is_whole(trial) and trial.training.settings in begins and not trial.training.cut:
                latest = work.folder / TRIALS / trial.name / LATEST
                context.store.pull(latest)
                shutil.copy(latest, target / TRIALS / trial.name / LATEST)
        found = {
            "trial": best.name,
            "settings": best.training.settings,
            "evidence": [asdict(one) for one in evidence],
            "sizes": [asdict(one) for one in sizes_of(config, trials)],
        }
        write_json(target / CHOSEN, found)
        write_trials(target / TRIALS_TABLE, [TrialRow.of(trial, shares.get(trial.name)) for trial in trials])
        write_study(target / STUDY, study_of(config, trials), f"{config.name}-{key}")
        record(target, work.seconds, trials=len(trials))


def plan_of(context: Context, work: Path) -> Plan:
    """What the search's trials have in common."""
    config, search = context.config, context.config.search
    assert search is not None
    return Plan(
        context.run,
        context.store,
        work,
        partial(trial_task, config),
        no_snapshots,
        config.resources.device,
        reuses_processes=True,
        together=search.together,
    )


def difference(settings: Settings, own: Settings) -> str:
    """Such as " with recipe.soft_weight 0.0068": in which settings a recipe differs from the student's own, if any."""
    changes = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
        if value != own[name]
    ]
    return f" with {', '.join(changes)}" if changes else ""


def no_snapshots(_training: Training) -> tuple[int, ...]:
    """Of students in the search the last snapshot is enough: from it the final training can go on."""
    return ()
