"""What the search and the final stage choose, where a sign or a wrong setting would not be noticed."""

from typing import cast

from models.averaging import greedy
from models.seeding import derive
from orchestrator.config.loading import load
from orchestrator.stages.averages import Way, ways_of
from orchestrator.stages.search import student_task
from orchestrator.training.rows import JudgedRow, Metrics
from tests.orchestrator.training.rows import row_of


def row(epoch: int, log_loss: float, accuracy: float) -> JudgedRow:
    return cast("JudgedRow", row_of(epoch, log_loss=log_loss, accuracy=accuracy, cycle_end=True))


def test_the_weighted_average_gives_the_better_snapshot_the_larger_weight():
    """PAPER 2.6 leaves the weights open; ours are 1 / log loss: 1 / 0.5 and 1 / 0.25."""
    rows = {6: row(6, 0.5, 0.5), 14: row(14, 0.25, 0.6)}
    losses = {Way.of(14): 0.25, Way.of(14, 6): 0.2}

    def judge(way: Way) -> Metrics:
        return {"accuracy": 0.5, "log_loss": losses[way]}

    ways = ways_of(rows, (6, 14), "log_loss", judge, has_moving=False)
    assert ways["weighted average"].weights == {6: 2.0, 14: 4.0}
    assert ways["single, epoch 14"].weights == {14: 1.0}
    assert ways["greedy average, 6, 14"].weights == {6: 1.0, 14: 1.0}
    assert not any(way.moving for way in ways.values())
    moving = ways_of(rows, (6, 14), "log_loss", judge, has_moving=True).keys() - ways.keys()
    assert moving == {"moving average, epoch 14"}


def test_greedy_leaves_out_what_changes_nothing():
    assert greedy([14, 6], lambda some: 1.0) == [14]


def test_students_are_judged_by_what_validation_is_to_judge():
    config = load("demo", ["decision=combined", "judged_by=scene"])
    assert student_task(config, config.student).decision == "scene"


def test_a_students_task_is_as_the_experiment_has_it():
    settings = ["copies.kinds=[noise]", "student.copies=true", "ensemble_of=logits", "resources.cpus_per_trial=3"]
    config = load("demo", settings)
    task = student_task(config, config.student)
    assert (task.copies, task.ensemble_of, task.threads) == (True, "logits", 3)


def test_students_of_every_seed_start_from_weights_of_their_own():
    """Others would change every run's students."""
    config = load("demo", ["seed=7"])
    found = [student_task(config, config.student, seed).seed for seed in (0, 1, 2)]
    assert found == [derive(7, "student"), derive(7, "student", 1), derive(7, "student", 2)]
    assert student_task(config, config.student).seed == found[0]
