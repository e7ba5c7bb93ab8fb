"""The final stage's own part by values: what it asks of actors and teachers, what it publishes and uses again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ray.exceptions import RayTaskError

from models.prediction import Predictions
from orchestrator.stages import final
from orchestrator.stages.context import Context
from orchestrator.stages.final import Finished, key_for, publish, run
from orchestrator.stages.search import Search
from orchestrator.stages.students import DISTILLED, PLAIN, best_student, tasks_of
from orchestrator.stages.teachers import task_of
from orchestrator.storage.store import Store
from orchestrator.storage.work import working
from orchestrator.training.record import FINISHED, ROWS, TRIALS, Training
from tests.orchestrator.stages.test_final import outcome, split, trained
from tests.orchestrator.watch.storages import row

SPACE = "{recipe.mixup_alpha: {low: 0.1, high: 1}}"
SEARCH = f"search={{trials: 1, cycle_ends: [1, 3], stopping: none, finalists: 0, space: {SPACE}}}"
TEACHER = "{model: {width: 2}, recipe: {cycle_ends: [1], crop_frames: 32}, ensemble: [1]}"
TEACHERS = f"teachers={{one: {TEACHER}, two: {TEACHER}}}"


@pytest.fixture
def config(small):
    return small("student.model.rows=[8, 8, 8]")


def test_where_nothing_is_predicted_the_file_has_its_column(tmp_path):
    final.write_predictions(tmp_path / "none.parquet", split((), []), {})
    assert pq.read_schema(tmp_path / "none.parquet").equals(pa.schema({"model": pa.string()}))


@pytest.mark.parametrize("searched", [True, False])
def test_the_stage_makes_what_it_is_given_in_a_folder_of_its_own(
    small, store, data, context_of, shown, tmp_path, monkeypatch, searched
):
    config = small(SEARCH) if searched else small()
    found = Search(tmp_path, "student-02", {"recipe.mixup_alpha": 0.25}) if searched else None
    context = context_of(config, "final")
    status, seen = context.view.of("final"), {}

    def begun(_config: Any, task: Any, student: Any, search: Search | None) -> Path:
        assert search == found and student.recipe == task.recipe
        return Path("begun")

    def make(*values: Any) -> Finished:
        seen["made"], seen["folders"], seen["state"] = values, status.folders, status.state
        trained(values[-2].folder, "plain")
        return Finished({"plain": outcome(0.5)}, {PLAIN: "plain"}, {})

    def noted(*values: Any) -> Any:
        seen["working"] = values
        return working(*values)

    for name, replacement in (("begun_by", begun), ("make", make), ("working", noted)):
        monkeypatch.setattr(final, name, replacement)
    monkeypatch.setattr(final, "basis", lambda *_: [])  # of the code that is replaced here
    student = best_student(config, found)
    key = key_for(config, student, data, "labels-key")
    torn = store.root / "work" / "final" / key / TRIALS / "final-plain"
    torn.mkdir(parents=True)  # of a start that was cut short: it has no record
    folder = run(context, data, {}, Path("labels-key"), found)
    assert folder == store.root / "artifacts" / "final" / key
    *given, work, bar = seen["made"]
    assert given == [context, data, {}, student, {"plain": Path("begun")}]
    assert seen["working"] == (store, "final", key, bar.wait, bar.so_far)
    assert work.folder == torn.parents[1] and seen["folders"] == [work.folder] and seen["state"] == "running"
    assert status.folders == [folder] and status.state == "finished" and not work.folder.exists()
    assert json.loads((folder / "stage.json").read_text())["best_trial"] == ("student-02" if searched else None)
    again = context_of(config, "final")
    assert run(again, data, {}, Path("labels-key"), found) == folder
    assert shown(again) == ["= final      reused  the exported student"]
    assert again.view.of("final").folders == [folder]


def test_what_another_run_finishes_meanwhile_is_not_made_again(config, store, data, context_of, monkeypatch):
    context, key = context_of(config, "final"), key_for(config, config.student, data, None)

    @contextmanager
    def after_another(*values: Any) -> Iterator[Any]:
        with working(*values) as work:
            trained(work.folder, "plain")
            publish(context, data, key, work, Finished({"plain": outcome(0.5)}, {PLAIN: "plain"}, {}), None)
            yield work

    monkeypatch.setattr(final, "working", after_another)
    monkeypatch.setattr(final, "start_actors", lambda *_: pytest.fail("made again"))
    assert run(context, data, {}, None, None) == store.root / "artifacts" / "final" / key


class Ray:
    """In Ray's stead: notes what is asked of it. Actors are done at once, unless the last one has an error."""

    def __init__(self, monkeypatch: Any, outcomes: dict[str, Any], error: RayTaskError | None = None) -> None:
        self.calls: list[Any] = []
        self.outcomes, self.error = outcomes, error
        self.predicted: dict[str, Predictions] = {}
        for name in ("start_actors", "follow", "predict_teachers", "to_tensorboard"):
            monkeypatch.setattr(final, name, getattr(self, name))
        monkeypatch.setattr(final.ray, "get", lambda names: [self.predicted[name] for name in names])

    def of(self, kind: str) -> list[Any]:
        return [call[1:] for call in self.calls if call[0] == kind]

    def start_actors(self, context: Context, tasks: Any, student: Any, begun: Any, work: Path) -> list[str]:
        if not (work / TRIALS).exists():
            trained(work, *tasks)
        self.calls.append(("start", context, tasks, student, begun, work))
        return list(tasks)

    def follow(
        self, actors: list[str], data: Any, epochs: int, bar: Any, failed: Any, exported: bool, trained: bool = False
    ) -> dict[str, Any]:
        self.calls.append(("follow", actors, data, epochs, bar, exported, trained))
        if self.error and trained == (len(self.outcomes) > 1):
            failed(actors[0], self.error)
            raise self.error
        facts = {"complexity": {"bytes": 12345}} if exported else {}
        return {name: replace(self.outcomes[name], facts=facts) for name in actors}

    def predict_teachers(self, *values: Any) -> dict[str, list[str]]:
        self.calls.append(("predict", *values))
        return {name: [f"{name} {number}" for number in range(2)] for name in values[3]}

    def to_tensorboard(self, *values: Any) -> None:
        self.calls.append(("show", *values))


def make(context: Context, data: Any, teachers: dict[str, Path], work: Any) -> tuple[Any, Finished]:
    student = context.config.student
    with context.view.stage("final") as bar:
        begun = dict.fromkeys(tasks_of(context.config, student))
        return bar, final.make(context, data, teachers, student, begun, work, bar)


def test_teachers_predict_the_test_split_and_every_model_s_rows_are_kept(
    small, store, data, context_of, shown, monkeypatch
):
    config = small(TEACHERS, "plain=true", "student.recipe.soft_weight=0.5", "test_shifts=[0, 4]")
    names = ("distilled", "plain")
    ray = Ray(monkeypatch, {name: replace(outcome(1.0), predictions={name: name}) for name in names})
    low, high = (Predictions(rows, rows) for rows in (torch.tensor([[0.1, 0.9]]), torch.tensor([[0.5, 0.5]])))
    ray.predicted = {"one 0": low, "one 1": high, "two 0": high, "two 1": high}
    teachers = {name: Path(name) for name in ("one", "two")}
    pulled: list[Path] = []
    monkeypatch.setattr(Store, "pull", lambda self, path, *_, **__: pulled.append(path))
    context = context_of(config, "final")
    with working(store, "final", "key") as work:
        _, made = make(context, data, teachers, work)
        trainings = {name: task_of(config, name) for name in teachers}
        asked = (trainings, config.resources, store, teachers, data.test.features, (0, 4))
        assert ray.of("predict") == [asked] and len(ray.of("start")) == 1
        assert list(made.predictions) == ["teacher one", "teacher two", "ensemble", *names]
        torch.testing.assert_close(made.predictions["teacher one"].scene, torch.tensor([[0.3, 0.7]]))
        torch.testing.assert_close(made.predictions["ensemble"].group, torch.tensor([[0.4, 0.6]]))
        assert made.chosen == {DISTILLED: "distilled", PLAIN: "plain"}
        for number, name in enumerate(names, 1):
            folder = work.folder / TRIALS / f"final-{name}"
            assert Training.read(folder).state == FINISHED and folder / ROWS in pulled
            assert (store, "small-1", Training.read(folder), [row(number, 0.5)]) in ray.of("show")
    lines = "\n".join(shown(context))
    assert "+ final" in lines and "last; 12,345 bytes by the challenge's rule" in lines


def test_without_test_clips_no_teacher_predicts(small, store, data, context_of, monkeypatch):
    ray = Ray(monkeypatch, {"plain": outcome(1.0)})
    nothing = replace(data, test=data.test.take(np.zeros(len(data.test), bool)))
    with working(store, "final", "key") as work:
        _, made = make(context_of(small(TEACHERS), "final"), nothing, {"one": Path("one")}, work)
    assert made.predictions == {} and [asked[3] for asked in ray.of("predict")] == [{}]


def test_of_several_seeds_the_best_student_alone_exports_once_it_is_known(small, store, data, context_of, monkeypatch):
    config = small("final.seeds=2")
    ray = Ray(monkeypatch, {"plain": outcome(1.0), "plain-seed1": outcome(0.5)})
    context = context_of(config, "final")
    with working(store, "final", "key") as work:
        bar, made = make(context, data, {}, work)
        tasks, begun = tasks_of(config, config.student), {"plain": None, "plain-seed1": None}
        assert ray.of("start") == [
            (context, tasks, config.student, begun, work.folder),
            (context, {"plain-seed1": tasks["plain-seed1"]}, config.student, begun, work.folder),
        ]
        assert ray.of("follow") == [
            (["plain", "plain-seed1"], data, 3, bar, False, False),
            (["plain-seed1"], data, 3, bar, True, True),
        ]
    assert made.chosen == {PLAIN: "plain-seed1"} and list(made.outcomes) == ["plain", "plain-seed1"]
    assert [bool(one.facts) for one in made.outcomes.values()] == [False, True]


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_student_that_fails_is_recorded_with_its_reason(small, store, data, context_of, monkeypatch, seeds):
    error = RayTaskError("run", "a traceback", ValueError("first\nthe loss is nan"))
    outcomes = {name: outcome(loss) for name, loss in [("plain", 1.0), ("plain-seed1", 0.5)][:seeds]}
    Ray(monkeypatch, outcomes, error)
    with working(store, "final", "key") as work:
        with pytest.raises(RayTaskError):
            make(context_of(small(f"final.seeds={seeds}"), "final"), data, {}, work)
        folder = work.folder / TRIALS / f"final-{list(outcomes)[-1]}"
        kept = Training.read(folder)
        assert (kept.state, kept.failure, kept.epochs, kept.number) == ("failed", "the loss is nan", 3, 2 * seeds)
        assert (folder / "failure.txt").read_text() == str(error)
