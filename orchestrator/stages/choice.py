"""Which recipe the search chooses. The student's own is replaced only where the paired evidence says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.seeding import derive
from orchestrator.config.experiment import Experiment
from orchestrator.errors import UserError
from orchestrator.stages.distributions import distance, distributions
from orchestrator.stages.rounds import fixed_recipes, is_whole
from orchestrator.training.best import is_lower_better
from orchestrator.training.data import Split
from orchestrator.training.paired import Compared, Difference, clips_of
from orchestrator.training.record import SCORES, TRIALS, Settings, Trial
from orchestrator.training.rows import Metric
from orchestrator.training.scores import Scores, load_scores


@dataclass(frozen=True)
class Candidate:
    """A recipe of the last round, or of the first where there is no last."""

    trial: str
    settings: Settings
    scores: Sequence[Scores]  # of each seed, at the last cycle end


@dataclass(frozen=True)
class Evidence:
    """How a candidate compares."""

    trial: str
    log_loss: float  # mean over seeds
    accuracy: float
    to_default: Difference | None  # of what the search selects by, minus the default's; None: that one failed
    wins: float  # share of the draws of locations and seeds in which it is the best
    distance: float  # from the default, as a share of the space


def choose(config: Experiment, trials: Sequence[Trial], validation: Split, work: Path) -> tuple[Trial, list[Evidence]]:
    """The chosen trial, and the evidence on all candidates. Raises UserError where no trial has a finite result."""
    own = next(iter(fixed_recipes(config).values()))
    candidates = candidates_of(config, trials, work)
    if not candidates:
        reasons = sorted({trial.training.failure or "no finite result" for trial in trials})
        raise UserError(f"every trial failed; the first reason: {reasons[0]}")
    default = next((place for place, one in enumerate(candidates) if one.settings == own), None)
    far = [distance(distributions(config), candidate.settings, own) for candidate in candidates]
    models, clips, seed = [candidate.scores for candidate in candidates], clips_of(validation), draws_seed(config)
    compared: dict[Metric, Compared] = {
        metric: Compared.of(models, clips, metric, config.mean_over, seed) for metric in ("log_loss", "accuracy")
    }
    judged = compared[config.select_by]
    place, wins = nearest_of_the_best(judged, far, config.select_by), judged.wins(is_lower_better(config.select_by))
    evidence = [
        Evidence(
            trial=candidate.trial,
            log_loss=float(compared["log_loss"].values[index]),
            accuracy=float(compared["accuracy"].values[index]),
            to_default=None if default is None else judged.difference(index, default),
            wins=float(wins[index]),
            distance=far[index],
        )
        for index, candidate in enumerate(candidates)
    ]
    return next(trial for trial in trials if trial.name == candidates[place].trial), evidence


def nearest_of_the_best(compared: Compared, far: Sequence[float], metric: Metric) -> int:
    """The model nearest to the default among those within one standard error of the best, by the paired difference.

    `far` is how far each is from the default. The one-standard-error rule is Breiman et al.'s (1984, section 3.4.3).
    """
    values = compared.values
    best = int(values.argmin() if is_lower_better(metric) else values.argmax())
    differences = [compared.difference(place, best) for place in range(len(values))]
    within = [place for place, found in enumerate(differences) if abs(found.value) <= found.error]
    return min(within, key=lambda place: far[place])


def draws_seed(config: Experiment) -> int:
    return derive(config.seed, "bootstrap")


def candidates_of(config: Experiment, trials: Sequence[Trial], work: Path) -> list[Candidate]:
    """Who is compared at the end: recipes that were trained to the end with every seed of the last round."""
    assert config.search is not None
    finalists, last = config.search.finalists, config.search.cycle_ends[-1]
    first = [trial for trial in trials if not trial.training.seed and is_whole(trial)]

    def scores(trial: Trial) -> Scores:
        return load_scores(work / TRIALS / trial.name / SCORES)[last]

    if finalists is None:
        return [Candidate(trial.name, trial.training.settings, [scores(trial)]) for trial in first]
    candidates = []
    for trial in first:
        settings = trial.training.settings
        again = [other for other in trials if other.training.seed and other.training.settings == settings]
        if len(again) == finalists.seeds and all(map(is_whole, again)):
            candidates.append(Candidate(trial.name, settings, [scores(other) for other in again]))
    return candidates


def wins_of(config: Experiment, trials: Sequence[Trial], validation: Split, work: Path) -> dict[str, float]:
    """Trial -> how often it would have been the best of those that were trained to the end, with other locations."""
    assert config.search is not None
    whole = [trial for trial in trials if not trial.training.seed and is_whole(trial)]
    if not whole:
        return {}
    last = config.search.cycle_ends[-1]
    scores = [[load_scores(work / TRIALS / trial.name / SCORES)[last]] for trial in whole]
    compared = Compared.of(scores, clips_of(validation), config.select_by, config.mean_over, draws_seed(config))
    shares = compared.wins(is_lower_better(config.select_by))
    return {trial.name: float(share) for trial, share in zip(whole, shares, strict=True)}
