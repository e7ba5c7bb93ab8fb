"""What a search finds for its epochs: replays on a table of recipes that were all trained to the end.

    python -m benchmarks search make RUN TABLE [MINUTES]
                                                  train the table: recipes of RUN's space, from its features and labels
    python -m benchmarks search [TABLE]           replay searches on it, or on tables/search-generated.parquet

That table is of the demo with 32 mel bins (`--set features.n_mels=32`), whose corpus is generated;
tables/search-esc10.parquet is of real recordings. A proposal is answered by the nearest recipe of the table that the
search has not trained yet: in the space itself, none comes twice. Where RUN's search has folds, a recipe is trained on
each, and its metrics are means over them. The peers are random recipes trained to the end, and Ray's ASHA with
Optuna's TPE, in the order in which trials happen to report.
"""

import heapq
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from optuna.trial import TrialState
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from benchmarks.processes import side_by_side
from benchmarks.replay import Replay
from models.prediction import predict
from models.table import Settings
from orchestrator.config.experiment import Experiment, to_yaml
from orchestrator.config.search import HalvingSettings, SobolSettings, TpeSettings
from orchestrator.finished.reproduce import load_run
from orchestrator.stages.context import Data
from orchestrator.stages.distributions import decoded, distance, distributions
from orchestrator.stages.rounds import fixed_recipes
from orchestrator.stages.samplers import Sobol
from orchestrator.stages.search import student_task
from orchestrator.storage.files import read_lines, write_lines
from orchestrator.storage.runs import RESULTS, locate
from orchestrator.training.inputs import INPUT
from orchestrator.training.metrics import summary
from orchestrator.training.record import FINISHED, Training
from orchestrator.training.record import Settings as TrialSettings
from orchestrator.training.task import build, decide, train

MADE_OF, TORCH = "experiment", "torch"  # keys of the table's schema metadata
GENERATED = Path(__file__).parent / "tables" / "search-generated.parquet"
TPE = TpeSettings()
TRIALS = 96  # as many as the table has recipes, so that every search comes to a good one
GRACE = 2  # cycles before a trial is judged
FEW = 24  # trials, as a search has
RECIPES, SEEDS = 96, 2
ENDS = (2, 6, 14)
REPLAYS, WORKERS = 200, 4
JITTER = 0.12  # of an epoch's time, as measured on two cores


def recipes_of(config: Experiment) -> list[TrialSettings]:
    """The fixed recipes, and points that fill the space evenly."""
    fixed = list(fixed_recipes(config).values())
    space, sobol = distributions(config), Sobol(SobolSettings())
    points = (decoded(sobol.propose(space, [], number, config.seed)) for number in range(1, RECIPES - len(fixed) + 1))
    return [*fixed, *(fixed[0] | point for point in points)]


@cache
def opened(run: str) -> tuple[Experiment, list[Data]]:
    """Of the run, with the schedule that the table is trained on; once in each process."""
    config, cuts, _ = load_run(*locate(run, RESULTS))
    assert config.search is not None
    folds = [data for data in cuts if data.cut in config.search_cuts]
    return config.model_copy(update={"search": config.search.model_copy(update={"cycle_ends": ENDS})}), folds


def one(run: str, kept: Path, settings: TrialSettings, seed: int, fold: int, until: float) -> list[dict[str, Any]]:
    """Train a recipe to the end; its metrics at each cycle end. None of them where it is later than `until`.

    On validation, and on the test split where the corpus is generated: of real recordings, that is not for a table.
    They are kept in a file: a table takes hours, and what is interrupted goes on.
    """
    if kept.exists():
        return read_lines(kept)
    if time.time() > until:
        return []
    config, folds = opened(run)
    data = folds[fold]
    task = student_task(config, config.search_recipe(settings), seed)
    rows = []
    for row, epoch in train(task, data.train, data.validation):
        if row["cycle_end"]:
            reached = {"epoch": row["epoch"], "log_loss": row["log_loss"], "accuracy": row["accuracy"]}
            if config.corpus.generate is not None:
                model = build(task)
                model.load_state_dict(epoch.snapshot().model)
                predicted = predict(model, data.test.features.open(), INPUT)
                test = summary(data.test.scene, decide(predicted, config.decision, config.corpus.taxonomy))
                reached |= {f"test_{name}": value for name, value in test.items()}
            rows.append(reached)
    write_lines(kept, rows)
    return rows


def make(run: str, file: Path, minutes: float) -> None:
    """Train the table, or for so many minutes: every recipe on one fold with one seed first. What it has is kept."""
    config, folds = opened(run)
    recipes = recipes_of(config)
    parts = file.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    for key, rows in (known_in(file) if file.exists() else {}).items():
        write_lines(part_of(parts, *key), rows)
    until = time.time() + 60 * minutes
    calls = {
        (place, seed, fold): (run, part_of(parts, place, seed, fold), recipe, seed, fold, until)
        for seed in range(SEEDS)
        for fold in range(len(folds))
        for place, recipe in enumerate(recipes)
    }
    found = side_by_side(one, calls)
    rows = [
        {"recipe": place, "seed": seed, "fold": fold, **row, **recipes[place]}
        for (place, seed, fold), rows in sorted(found.items())
        for row in rows
    ]
    table = pa.Table.from_pylist(rows).replace_schema_metadata({MADE_OF: to_yaml(config), TORCH: torch.__version__})
    pq.write_table(table, file)
    print(f"{sum(map(bool, found.values()))} of {len(calls)} trainings")


def part_of(parts: Path, place: int, seed: int, fold: int) -> Path:
    """Where one training's metrics are kept while the table is made."""
    return parts / f"{place}-{seed}-{fold}.jsonl"


def known_in(file: Path) -> dict[tuple[int, int, int], list[dict[str, Any]]]:
    """The metrics of every training in a table."""
    found: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
    for row in pq.read_table(file).to_pylist():
        key = (row.pop("recipe"), row.pop("seed"), row.pop("fold", 0))
        found.setdefault(key, []).append({name: value for name, value in row.items() if "." not in name})
    return found


class Known:
    """The table: what each recipe reaches, and which is the best."""

    def __init__(self, file: Path) -> None:
        table = pq.read_table(file)
        tree = yaml.safe_load(table.schema.metadata[MADE_OF.encode()])
        self.config = Experiment.model_validate(tree | {"validation": {}})  # the table has means over the folds
        self.space = distributions(self.config)
        self.recipes: list[TrialSettings] = []
        by_fold: dict[tuple[int, int], dict[int, list[float]]] = {}
        for row in table.to_pylist():
            if row["recipe"] == len(self.recipes):
                self.recipes.append({name: value for name, value in row.items() if "." in name})
            reached = by_fold.setdefault((row["recipe"], row["seed"]), {})
            reached.setdefault(row["epoch"], []).append(row["log_loss"])
        folds = Experiment.model_validate(tree).validation.folds
        whole = all(len(losses) == folds for reached in by_fold.values() for losses in reached.values())
        if not whole or len(by_fold) < SEEDS * len(self.recipes):
            sys.exit(f"{file} is not complete: `make RUN TABLE` goes on with it")
        self.losses = {
            key: {epoch: statistics.fmean(losses) for epoch, losses in reached.items()}
            for key, reached in by_fold.items()
        }
        self.last = max(self.losses[0, 0])
        ends = np.array([[self.losses[place, seed][self.last] for seed in range(SEEDS)] for place in self.places])
        self.truth = ends.mean(1)
        self.error = float(np.sqrt((np.diff(ends) ** 2 / 2).mean() / SEEDS))  # of a mean over the seeds

    @property
    def places(self) -> range:
        return range(len(self.recipes))

    def nearest(self, settings: TrialSettings, taken: Collection[int]) -> int:
        left = (place for place in self.places if place not in taken)
        return min(left, key=lambda place: distance(self.space, self.recipes[place], settings))

    def is_good(self, place: int) -> bool:
        """Within one standard error of the best."""
        return bool(self.truth[place] <= self.truth.min() + self.error)


@dataclass(frozen=True)
class Outcome:
    """One search: the epochs until its best trial is a good one, and the recipe it ends with."""

    epochs: int
    reached: bool
    recipe: int


def outcome(known: Known, finished: Sequence[tuple[int, int, float]], total: int) -> Outcome:
    """Of trials in the order in which they ended: (epochs of the search until then, recipe, loss)."""
    best, when = None, None
    for epochs, place, loss in finished:
        if best is None or loss < best[1]:
            best = place, loss
            if known.is_good(place) and when is None:
                when = epochs
    assert best is not None
    return Outcome(when or total, when is not None, best[0])


def randomly(known: Known, seed: int) -> Outcome:
    """Random recipes, each trained to the end."""
    draw, observed = random.Random(seed), seed % SEEDS
    order = draw.sample(known.places, len(known.recipes))
    ended = [
        (known.last * (rank + 1), place, known.losses[place, observed][known.last]) for rank, place in enumerate(order)
    ]
    return outcome(known, ended[:TRIALS], known.last * TRIALS)


def ours(
    known: Known, seed: int, timing: int = 0, workers: int = WORKERS, trials: int = TRIALS, sampler: Settings = TPE
) -> Outcome:
    """The search as it is, without the last round, which the table has not enough seeds for."""
    assert known.config.search is not None
    changes = {"trials": trials, "finalists": None, "cycle_ends": ENDS, "sampler": sampler}
    changes["stopping"] = HalvingSettings(grace_cycles=GRACE)
    search = known.config.search.model_copy(update=changes)
    config, observed = known.config.model_copy(update={"search": search, "seed": seed}), seed % SEEDS
    draw = random.Random(timing)
    places: dict[int, int] = {}

    def results(training: Training) -> dict[int, float | None]:
        places[training.number] = known.nearest(training.settings, places.values())
        return dict(known.losses[places[training.number], observed])

    replay = Replay(config, results, lambda training, end: end * draw.gauss(1, JITTER), workers)
    assert replay.run()
    counted = {trial.training.number: trial for trial in replay.counted()}
    ended = []
    for epochs, number in replay.ended:
        trial = counted[number]
        if trial.training.state == FINISHED:
            ended.append((epochs, places[number], trial.rows[-1]["log_loss"] or math.inf))
    return outcome(known, ended, replay.epochs)


def asha(
    known: Known, seed: int, timing: int = 0, workers: int = WORKERS, trials: int = TRIALS, factor: int = 2
) -> Outcome:
    """Ray's ASHA and Optuna's TPE, in the order of reports; neither default nor plain is a trial."""
    draw, observed = random.Random(f"{seed} {timing}"), seed % SEEDS
    scheduler = AsyncHyperBandScheduler(
        time_attr="rung",
        metric="x",
        mode="max",
        grace_period=2**GRACE,
        max_t=2 ** len(ENDS) + 1,
        reduction_factor=factor,
    )
    bracket = scheduler._brackets[0]
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    events: list[tuple[float, int, int]] = []
    asked: dict[int, tuple[optuna.Trial, int]] = {}
    epochs, now = 0, 0.0
    ended: list[tuple[int, int, float]] = []
    while True:
        while len(events) < workers and len(asked) < trials:
            number = len(asked)
            trial = study.ask(dict(known.space))
            asked[number] = trial, known.nearest(decoded(trial.params), [place for _, place in asked.values()])
            heapq.heappush(events, (now + ENDS[0] * draw.gauss(1, JITTER), number, 0))
        if not events:
            return outcome(known, ended, epochs)
        now, number, cycle = heapq.heappop(events)
        trial, place = asked[number]
        loss = known.losses[place, observed][ENDS[cycle]]
        epochs += ENDS[cycle] - (ENDS[cycle - 1] if cycle else 0)
        trial.report(loss, ENDS[cycle])
        named: Any = SimpleNamespace(trial_id=str(number))
        stops = bracket.on_result(named, 2 ** (cycle + 1), -loss) == TrialScheduler.STOP
        if cycle == len(ENDS) - 1:
            study.tell(trial, loss)
            ended.append((epochs, place, loss))
        elif stops:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            length = ENDS[cycle + 1] - ENDS[cycle]
            heapq.heappush(events, (now + length * draw.gauss(1, JITTER), number, cycle + 1))


def replays(file: str, way: str) -> list[Outcome]:
    known = Known(Path(file))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return [WAYS[way](known, seed) for seed in range(REPLAYS)]


def repeated(file: str, way: str) -> int:
    """How many different recipes a search of FEW trials ends with under 20 timings, with 1, 2, 4 and 8 workers."""
    known = Known(Path(file))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    timings: Any = WAYS[way]
    return len({timings(known, 0, timing, (1, 2, 4, 8)[timing % 4], FEW).recipe for timing in range(20)})


WAYS: dict[str, Callable[..., Outcome]] = {
    "random": randomly,
    "asha": asha,  # as searches were before they went by number
    "asha, one in 4": partial(asha, factor=4),
    "ours, tpe": ours,
    "ours, sobol": partial(ours, sampler=SobolSettings()),
}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["make"]:
        make(arguments[1], Path(arguments[2]), float(arguments[3]) if len(arguments) > 3 else math.inf)
        return
    file = arguments[0] if arguments else str(GENERATED)
    known = Known(Path(file))
    good = sum(map(known.is_good, known.places))
    print(
        f"{len(known.recipes)} recipes, {SEEDS} seeds, {known.last} epochs; best log loss on validation "
        f"{known.truth.min():.3f} +- {known.error:.3f}, {good} within that; default {known.truth[0]:.3f}, "
        f"plain {known.truth[1]:.3f}, median {np.median(known.truth):.3f}"
    )
    found = side_by_side(replays, {way: (file, way) for way in WAYS})
    spread = side_by_side(repeated, {way: (file, way) for way in list(WAYS)[1:]})
    print(f"{REPLAYS} replays of up to {TRIALS} trials, {WORKERS} workers: epochs until the best trial is a good one")
    baseline = statistics.median(outcome.epochs for outcome in found["random"])
    for way, outcomes in found.items():
        epochs = statistics.median(outcome.epochs for outcome in outcomes)
        reached = sum(outcome.reached for outcome in outcomes) / REPLAYS
        regret = statistics.mean(float(known.truth[outcome.recipe] - known.truth.min()) for outcome in outcomes)
        timings = f", {spread[way]} recipes under 20 timings" if way in spread else ""
        print(
            f"{way:<16}median {epochs:6.0f} ({epochs / baseline:.2f} of random), reached {reached:.0%}, "
            f"mean regret {regret:.4f}{timings}"
        )
