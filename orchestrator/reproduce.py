"""A trial again, in this process, without a cluster, compared with what was recorded."""

from collections.abc import Callable
from pathlib import Path

from features.corpus import CorpusError
from orchestrator.artifacts import read_json
from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.loading import load
from orchestrator.run import versions
from orchestrator.stages import Data
from orchestrator.stages.features import compute, load_data
from orchestrator.stages.labels import with_labels
from orchestrator.stages.search import Search, trial_task
from orchestrator.training import train

COMPARED = ("loss", "accuracy", "log_loss")


def reproduce(run: Path, trial: str | None, say: Callable[[str], None]) -> bool:
    """Repeat a trial of the run (default: the best) and print each epoch beside the recorded one.

    Returns whether every number is equal. Raises UserError where the recordings are not those of the run.
    """
    config, data, search = open_run(run)
    if search is None:
        raise UserError(f"{run} had no search, so it has no trial to repeat; run its config.yaml again in its stead")
    name = trial or search.best
    recorded = search.rows(name)
    if not recorded:
        known = ", ".join(row["trial"] for row in search.trials())
        raise UserError(f"the run has no trial '{name}'; it has {known}")
    for package, now in versions().items():
        then = read_json(run / "versions.json").get(package)
        if then != now:
            say(f"warning: {package} is {now} here and was {then}: numbers may differ")
    say(f"{name}: {len(recorded)} epochs")
    say(f"{'epoch':>5}" + "".join(f"{column:>12}{'recorded':>12}" for column in COMPARED))
    equal = True
    settings = search.settings_of(name)
    for (row, _), before in zip(
        train(trial_task(config, settings), data.train, data.validation), recorded, strict=False
    ):
        same = all(row[column] == before[column] for column in COMPARED)
        equal &= same
        numbers = "".join(f"{row[column]:>12.6f}{before[column]:>12.6f}" for column in COMPARED)
        say(f"{row['epoch']:>5}{numbers}{'' if same else '   differs'}")
    say("every number is equal" if equal else "numbers differ: another machine, version or number of threads?")
    return equal


def open_run(run: Path, config: Experiment | None = None) -> tuple[Experiment, Data, Search | None]:
    """A finished run's config, its students' data with soft labels, and its search, if it had one.

    Missing shards are computed again. With `config`, the data are as it asks for them.

    Raises CorpusError where the recordings are not those of the run.
    """
    results = read_json(run / "results.json")
    config = config or load(str(run / "config.yaml"))
    storage = run.resolve().parent
    computed = compute(config, storage / "shards", parallel=False)
    if computed.manifest.data_hash != results["corpus"]["data_hash"]:
        raise CorpusError(f"the recordings in {config.corpus.root} are not those of the run: their content differs")
    data = load_data(config, computed, storage / "shards")
    artifacts = {name: storage / path for name, path in results["artifacts"].items()}
    teachers = {name: artifacts[f"teacher-{name}"] for name in config.labelling}
    data = data.for_student(config.student.copies)
    search = Search.read(artifacts["search"]) if "search" in artifacts else None
    return config, with_labels(config, data, artifacts["labels"], teachers), search
