"""The final actors on a real Ray: what they return, what is shown meanwhile, what a failure leaves."""

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray.exceptions import RayActorError, RayTaskError
from rich.console import Console

from orchestrator.config.experiment import Resources
from orchestrator.monitor.view import View
from orchestrator.stages.actors import follow, share_of_gpus, start_actors
from orchestrator.stages.context import Context, Data
from orchestrator.stages.final_actor import Averaging
from orchestrator.stages.recorder import PROCESSES
from orchestrator.stages.students import tasks_of
from orchestrator.training.record import TRIALS, Training

DATA = cast("Data", "the data")  # which the actors of these tests only return


class Shown:
    """A bar that opens the gate for the actors' work when it has shown a text."""

    def __init__(self, gate: Path, awaited: str) -> None:
        self.gate, self.awaited, self.updates = gate, awaited, list[tuple[float, float, str]]()

    def update(self, done: float, total: float, detail: str) -> None:
        self.updates.append((done, total, detail))
        if detail == self.awaited:
            self.gate.touch()


def unexpected(name: str, error: RayTaskError) -> None:
    raise AssertionError(f"{name} failed: {error}")


def started(gate: Path, silent: bool = False, /, **failures: Exception | None) -> dict[str, Any]:
    """An actor for each name, which works until the gate is open, and then fails or returns what it was given.

    One that is silent never answers how far it is.
    """

    class Gated:
        def __init__(self, failure: Exception | None) -> None:
            self.failure = failure

        def progress(self) -> dict[str, Any]:
            gate.with_name("asked").touch()
            while silent:
                time.sleep(0.1)
            return {"epoch": 2, "accuracy": 0.5}

        def run(self, data: str, export: bool) -> tuple[str, bool]:
            deadline = time.monotonic() + 300
            while not gate.exists():
                assert time.monotonic() < deadline, "the text was never shown"
                time.sleep(0.02)
            if self.failure:
                raise self.failure
            return data, export

    remote: Any = ray.remote(Gated)
    return {
        name: remote.options(num_cpus=0, max_concurrency=2, max_task_retries=1, max_restarts=1).remote(failure)
        for name, failure in failures.items()
    }


def wait_for_the_end_of(actor: Any) -> None:
    """An actor that is killed may still answer for a moment."""
    deadline = time.monotonic() + 60
    with pytest.raises(RayActorError):
        while time.monotonic() < deadline:
            ray.get(actor.progress.remote(), timeout=60)


@pytest.mark.usefixtures("ray_cluster")
class TestFollowing:
    @pytest.mark.parametrize("exported", [True, False])
    def test_all_outcomes_are_returned_and_progress_is_shown(self, tmp_path, exported):
        bar = Shown(tmp_path / "gate", "distilled 2/3 0.500, plain 2/3 0.500")
        running = started(bar.gate, plain=None, distilled=None)
        outcomes = follow(running, DATA, 3, cast("Any", bar), unexpected, exported)
        assert outcomes == {"distilled": (DATA, exported), "plain": (DATA, False)}
        assert {(done, total) for done, total, detail in bar.updates if detail == bar.awaited} == {(4, 6)}
        assert bar.updates[-1] == (6, 6, "distilled 3/3 0.500, plain 3/3 0.500")
        for actor in running.values():  # their CPUs are free for the teachers' predictions
            wait_for_the_end_of(actor)

    def test_one_that_ends_before_it_has_said_how_far_it_is_counts_as_done(self, tmp_path):
        bar = Shown(tmp_path / "gate", "never shown")
        bar.gate.touch()
        running = started(bar.gate, True, plain=None)
        outcomes = follow(running, DATA, 3, cast("Any", bar), unexpected, exported=True)
        assert outcomes == {"plain": (DATA, True)}  # where no student is distilled, this one is exported
        assert bar.updates[-1] == (3, 3, "plain 3/3")

    def test_students_that_were_trained_before_only_export(self, tmp_path):
        bar = Shown(tmp_path / "gate", "distilled-seed1 3/3, exporting")
        running = started(bar.gate, **{"distilled-seed1": None})
        outcomes = follow(running, DATA, 3, cast("Any", bar), unexpected, exported=True, trained=True)
        assert outcomes == {"distilled-seed1": (DATA, True)}
        assert {update[:2] for update in bar.updates} == {(3, 3)} and bar.updates[-1][2] == "distilled-seed1 3/3"
        assert not bar.gate.with_name("asked").exists()

    @pytest.mark.parametrize(
        ("failure", "recorded"),
        [(ValueError("the loss is nan"), [("plain", "the loss is nan")]), (OSError(28, "No space left on device"), [])],
    )
    def test_a_failure_ends_all_and_is_recorded_unless_it_is_the_storage_s(self, tmp_path, failure, recorded):
        bar = Shown(tmp_path / "gate", "distilled 2/3 0.500, plain 2/3 0.500")
        running = started(bar.gate, plain=failure)
        running |= started(tmp_path / "never", distilled=None)
        failed: list[tuple[str, str]] = []

        def fail(name: str, error: RayTaskError) -> None:
            failed.append((name, str(error.cause)))

        with pytest.raises(RayTaskError, match=str(failure.args[-1])):
            follow(running, DATA, 3, cast("Any", bar), fail, exported=True)
        assert failed == recorded
        wait_for_the_end_of(running["distilled"])

    def test_ray_is_asked_every_second_and_no_question_is_repeated(self, tmp_path, monkeypatch):
        waits, asked, wait, kill = list[tuple[int, dict[str, Any]]](), list[dict[str, Any]](), ray.wait, ray.kill

        class Noted:
            """An actor whose questions are noted."""

            def __init__(self, actor: Any) -> None:
                self.actor, self.run, self.progress = actor, actor.run, self

            def options(self, **how: Any) -> Any:
                asked.append(how)
                return self.actor.progress.options(**how)

        def noted(references: list[Any], **how: Any) -> Any:
            waits.append((len(references), how))
            return wait(references, **how)

        monkeypatch.setattr(ray, "wait", noted)
        monkeypatch.setattr(ray, "kill", lambda noted: kill(noted.actor))
        bar = Shown(tmp_path / "gate", "distilled 2/3 0.500, plain 2/3 0.500")
        running = {name: Noted(actor) for name, actor in started(bar.gate, plain=None, distilled=None).items()}
        follow(running, DATA, 3, cast("Any", bar), unexpected, exported=False)
        assert all(how in ({"timeout": 1.0}, {"num_returns": count, "timeout": 0}) for count, how in waits)
        assert asked and all(how == {"max_task_retries": 0} for how in asked)

    def test_a_training_that_has_not_answered_yet_is_shown_as_not_begun(self, tmp_path):
        bar = Shown(tmp_path / "gate", "plain 2/3 0.500, 1 not begun")
        running = started(bar.gate, plain=ValueError("the loss is nan"))
        running |= started(tmp_path / "never", True, distilled=None)
        with pytest.raises(RayTaskError, match="the loss is nan"):
            follow(running, DATA, 3, cast("Any", bar), lambda name, error: None, exported=True)
        assert (2, 6, bar.awaited) in bar.updates

    def test_each_training_is_recorded_and_has_an_actor_of_its_name(self, small, store):
        config = small("final.seeds=2")
        tasks = tasks_of(config, config.student)
        context = Context(config, store, View(Console(file=io.StringIO())), "run")
        work = store.root / "work" / "final" / "key"
        running = start_actors(context, tasks, config.student, dict.fromkeys(tasks), work)
        try:
            assert list(running) == ["plain", "plain-seed1"]
            for number, (name, actor) in zip((2, 4), running.items(), strict=True):
                training = Training.read(work / TRIALS / f"final-{name}")
                assert (training.number, training.state, training.epochs) == (number, "running", 3)
                assert ray.get_actor(f"final-{name}", namespace="key") == actor
                assert ray.get(actor.progress.remote(), timeout=300) == {"epoch": 0}
        finally:
            for actor in running.values():
                ray.kill(actor)


@pytest.mark.parametrize(("gpus", "device"), [(0.5, "cuda"), (0.0, "cpu")])
def test_an_actor_has_its_training_its_resources_and_where_it_begins(small, store, monkeypatch, gpus, device):
    given: dict[str, tuple[Any, ...]] = {}

    class Remote:
        def options(self, *, name: str, **options: Any) -> "Remote":
            self.name = name
            assert options == {
                "num_cpus": 2,
                "num_gpus": gpus,
                "max_restarts": PROCESSES,
                "max_task_retries": PROCESSES,
                "max_concurrency": 2,
                "namespace": "key",
            }
            return self

        def remote(self, *arguments: Any) -> None:
            given[self.name] = arguments

    monkeypatch.setattr(ray, "remote", lambda which: Remote())
    monkeypatch.setattr("orchestrator.stages.actors.share_of_gpus", lambda resources, actors: gpus)
    config = small("final.seeds=2", "resources.cpus_per_trial=2")
    tasks, work = tasks_of(config, config.student), store.root / "work" / "final" / "key"
    begun = {"plain": Path("a-trial"), "plain-seed1": None}
    start_actors(Context(config, store, View(Console(file=io.StringIO())), "run"), tasks, config.student, begun, work)
    settings = Averaging.of(config, config.student)
    assert given == {
        f"final-{name}": (
            name,
            replace(task, device=device),
            replace(settings, begun=begun[name]),
            store,
            work / TRIALS / f"final-{name}",
            "run",
        )
        for name, task in tasks.items()
    }


@pytest.mark.parametrize(
    ("of_a_trial", "gpus", "cpus", "share"),
    [
        (0.25, 4, 8, 1.0),
        (0.25, 1, 8, 0.5),
        (0.5, 1, 8, 0.5),
        (1.0, 1, 8, 1.0),
        (0.0, 1, 8, 0.5),  # one that trials leave idle
        (0.0, 4, 8, 1.0),  # no more than one of those
        (0.0, 1, 1, 0.0),  # two CPUs a trial, and none of the nodes that have them has a GPU
        (0.0, 0, 8, 0.0),
    ],
)
def test_final_actors_have_a_whole_gpu_where_there_are_enough(monkeypatch, of_a_trial, gpus, cpus, share):
    monkeypatch.setattr("orchestrator.stages.actors.resources_within_reach", lambda: {"GPU": gpus})
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": gpus})
    nodes = [{"Alive": True, "Resources": have} for have in ({"GPU": gpus, "CPU": cpus}, {"CPU": 8})]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert share_of_gpus(Resources(cpus_per_trial=2, gpus_per_trial=of_a_trial), actors=2) == share


def test_where_no_gpu_is_in_reach_an_actor_waits_for_a_trial_s_share(monkeypatch):
    monkeypatch.setattr("orchestrator.stages.actors.resources_within_reach", lambda: {"CPU": 2.0})
    assert share_of_gpus(Resources(gpus_per_trial=0.25), actors=1) == 0.25
