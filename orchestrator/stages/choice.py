"""Which recipe the search chooses. The student's own is replaced only where the paired evidence says so."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.seeding import derive
from orchestrator.config.experiment import Experiment
from orchestrator.errors import UserError
from orchestrator.stages.costs import cost_of
from orchestrator.stages.distributions import distance, distributions
from orchestrator.stages.rounds import again_name, fixed_recipes, is_whole
from orchestrator.training.best import is_lower_better
from orchestrator.training.paired import Clips, Compared, Difference
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


def choose(config: Experiment, trials: Sequence[Trial], clips: Clips, work: Path) -> tuple[Trial, list[Evidence]]:
    """The chosen trial, and the evidence on all candidates. Raises UserError where no trial has a finite result.

    `clips` are those of validation, of one fold after another.
    """
    own = next(iter(fixed_recipes(config).values()))
    candidates = candidates_of(config, trials, work)
    if not candidates:
        reasons = sorted({trial.training.failure or "no finite result" for trial in trials})
        raise UserError(f"every trial failed; the first reason: {reasons[0]}")
    default = next((place for place, one in enumerate(candidates) if one.settings == own), None)
    far = [distance(distributions(config), candidate.settings, own) for candidate in candidates]
    assert config.search is not None
    preferred = [
        (*(cost_of(config, config.search_recipe(one.settings), cost) for cost in config.search.costs), distance)
        for one, distance in zip(candidates, far, strict=True)
    ]
    models, seed = [candidate.scores for candidate in candidates], draws_seed(config)
    compared: dict[Metric, Compared] = {
        metric: Compared.of(models, clips, metric, config.mean_over, seed) for metric in ("log_loss", "accuracy")
    }
    judged = compared[config.select_by]
    place, wins = first_of_the_best(judged, preferred, config.select_by), judged.wins(is_lower_better(config.select_by))
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


def first_of_the_best(compared: Compared, preferred: Sequence[tuple[float, ...]], metric: Metric) -> int:
    """The most preferred model among those within one standard error of the best, by the paired difference.

    `preferred` are the costs of each, where they are objectives, and its distance from the default: the lower, the
    better. The one-standard-error rule is Breiman et al.'s (1984, section 3.4.3).
    """
    values = compared.values
    best = int(values.argmin() if is_lower_better(metric) else values.argmax())
    differences = [compared.difference(place, best) for place in range(len(values))]
    within = [place for place, found in enumerate(differences) if abs(found.value) <= found.error]
    return min(within, key=lambda place: preferred[place])


def draws_seed(config: Experiment) -> int:
    """Of the bootstrap's draws."""
    return derive(config.seed, "bootstrap")


def candidates_of(config: Experiment, trials: Sequence[Trial], work: Path) -> list[Candidate]:
    """Who is compared at the end: recipes that were trained to the end with every seed of the last round."""
    assert config.search is not None
    finalists = config.search.finalists
    return whole_on_all_folds(config, trials, range(1, finalists.seeds + 1) if finalists else [0], work)


def whole_on_all_folds(
    config: Experiment, trials: Sequence[Trial], seeds: Iterable[int], work: Path
) -> list[Candidate]:
    """The recipes of the first round that were trained to the end with each of `seeds`, on every fold."""
    assert config.search is not None
    last = config.search.cycle_ends[-1]
    whole = {trial.name for trial in trials if is_whole(trial)}
    found = []
    for trial in trials:
        if not trial.training.is_first:
            continue
        names = [[again_name(trial.name, seed, cut) for cut in config.search_cuts] for seed in seeds]
        if all(name in whole for folds in names for name in folds):
            scores = [
                Scores.joined([load_scores(work / TRIALS / name / SCORES)[last] for name in folds]) for folds in names
            ]
            found.append(Candidate(trial.name, trial.training.settings, scores))
    return found


def wins_of(config: Experiment, trials: Sequence[Trial], clips: Clips, work: Path) -> dict[str, float]:
    """Trial -> how often it would have been the best of those that were trained to the end, with other locations."""
    whole = whole_on_all_folds(config, trials, [0], work)
    if not whole:
        return {}
    scores = [candidate.scores for candidate in whole]
    compared = Compared.of(scores, clips, config.select_by, config.mean_over, draws_seed(config))
    shares = compared.wins(is_lower_better(config.select_by))
    return {candidate.trial: float(share) for candidate, share in zip(whole, shares, strict=True)}
