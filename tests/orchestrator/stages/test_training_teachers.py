"""The teachers' stage by values: what it trains, publishes and uses again. Here trainings end at once."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from features.maps import FeatureMap
from features.taxonomy import Taxonomy
from models.fit import Snapshot
from models.seeding import derive
from orchestrator.errors import UserError
from orchestrator.stages import teachers, tuning
from orchestrator.stages.context import Context, Data
from orchestrator.stages.recorder import Recorder
from orchestrator.stages.teachers import key_for, task_of, titled, trainings_of, trial_task
from orchestrator.stages.trainable import Plan
from orchestrator.stages.verdicts import Verdicts
from orchestrator.storage import lease
from orchestrator.storage.files import read_json, write_lines
from orchestrator.storage.store import LEASE
from orchestrator.storage.tensors import load_tensors, save_snapshot, snapshot_name
from orchestrator.training.data import Features, Split
from orchestrator.training.record import FINISHED, LATEST, ROWS, TRIALS, Training
from orchestrator.training.task import Task
from tests.orchestrator.training.rows import row_of

TEACHERS = (
    "{narrow: {model: {width: 2}, recipe: {cycle_ends: [1, 3], crop_frames: 32}, ensemble: [1, 3]},"
    " wide: {model: {width: 3}, recipe: {cycle_ends: [1, 3], crop_frames: 32}, ensemble: [3], copies: true}}"
)
NOTHING = Split.of([], Features(FeatureMap((), (), (1, 1)), np.empty(0, np.int64)), Taxonomy.from_scenes(("a", "b")))
CUTS = [Data(f"k{cut}", f"r{cut}", NOTHING, NOTHING, NOTHING, {}, {}, {}, cut=cut) for cut in ("", "fold2")]
TITLES = ["narrow", "wide", "narrow-fold2", "wide-fold2"]


@pytest.fixture
def config(small):
    settings = ("copies.kinds=[noise]", "seed=3", "resources={cpus_per_trial: 2, gpus_per_trial: 0.5}")
    return small(f"teachers={TEACHERS}", *settings)


def test_a_teacher_is_trained_by_its_own_settings_and_judged_by_its_scene_classifier(config):
    for name, copies in (("narrow", False), ("wide", True)):
        teacher, taxonomy = config.teachers[name], config.corpus.taxonomy
        seed = derive(3, "teacher", name)
        expected = Task(teacher.model, teacher.recipe, seed, taxonomy, decision="scene", copies=copies, threads=2)
        assert task_of(config, name) == expected
        assert trial_task(config, Training("teachers", "its name", 4, 3, {"teacher": name}, cut="fold2")) == expected


def test_the_trainings_are_every_teacher_on_every_cut_by_number(config):
    assert trainings_of(config, CUTS) == [
        Training("teachers", f"teacher-{titled(name, cut)}", number, 3, {"teacher": name}, cut=cut)
        for number, name, cut in ((1, "narrow", ""), (2, "wide", ""), (3, "narrow", "fold2"), (4, "wide", "fold2"))
    ]
    assert [one.trial for one in trainings_of(config, CUTS)] == [f"teacher-{title}" for title in TITLES]


class Trained:
    """In Tune's stead: each training leaves what a trial would, at once, unless something happens to it."""

    def __init__(self) -> None:
        self.happens: dict[str, BaseException] = {}  # to trainings, by name
        self.trained: list[list[str]] = []  # in each experiment
        self.counts: list[tuple[int, int, int]] = []  # of ended trainings, of all, and of epochs
        self.known: list[dict[int, list[int]]] = []  # epochs of the trainings that had ended, by number
        self.folders: list[Any] = []
        self.devices: list[str] = []
        self.leases: list[set[str]] = []

    def __call__(
        self, plan: Plan, verdicts: Verdicts, recorder: Recorder, cuts: Sequence[Data], resources: Any, *, config: Any
    ) -> None:
        trainings = [Training(**values) for values in config["trial"]["grid_search"]]
        self.trained.append([training.trial for training in trainings])
        self.counts.append((recorder.ended, recorder.total(), recorder.epochs))
        self.known.append({number: [row["epoch"] for row in one.rows] for number, one in verdicts.trials.items()})
        self.folders.append(list(recorder.bar.status.folders))
        self.devices.append(plan.device)
        self.leases.append({file.parent.name for file in plan.store.root.glob(f"work/teacher/*/{LEASE}")})
        for training in trainings:
            match self.happens.pop(training.trial, None):
                case ValueError() as failure:
                    training.fail(plan.store, plan.work, str(failure), "a traceback")
                case tuning.ProcessLost() as loss:
                    training.write(plan.store, plan.work)
                    raise loss
                case BaseException() as interruption:
                    training.write(plan.store, plan.work)
                    (plan.work / TRIALS / training.trial / LATEST).write_bytes(b"torn")
                    raise interruption
                case None:
                    self.end(plan, replace(training, state=FINISHED))

    def end(self, plan: Plan, training: Training) -> None:
        folder = plan.work / TRIALS / training.trial
        training.write(plan.store, plan.work)
        rows = [row_of(epoch, 1.5, training.number / 10) for epoch in (1, 3)]
        write_lines(folder / ROWS, rows)
        for epoch in plan.keep_of(training):
            weights = {"w": torch.tensor([10.0 * training.number + epoch])}
            save_snapshot(folder / snapshot_name(epoch), Snapshot(epoch, weights, {}), rows)


@pytest.fixture
def tune(monkeypatch) -> Trained:
    trained = Trained()
    monkeypatch.setattr(teachers, "run_trials", trained)
    return trained


@pytest.fixture
def context(config, context_of) -> Context:
    return context_of(config, "teachers")


def folders_of(context: Context) -> list[Any]:
    keys = [key_for(context.config, name, data) for data in CUTS for name in context.config.teachers]
    return [context.store.root / "artifacts" / "teacher" / key for key in keys]


def test_every_teacher_of_every_cut_has_an_artifact_of_what_votes_and_is_used_again(context, tune, shown):
    found = teachers.run(context, CUTS)
    narrow, wide, narrow2, wide2 = folders_of(context)
    assert found == {"": {"narrow": narrow, "wide": wide}, "fold2": {"narrow": narrow2, "wide": wide2}}
    assert tune.trained == [[f"teacher-{title}" for title in TITLES]] and tune.counts == [(0, 4, 3)]
    assert tune.devices == ["cuda"] and tune.leases == [{folder.name for folder in folders_of(context)}]
    assert {file.name: load_tensors(file)["w"].item() for file in narrow2.glob("*.safetensors")} == {
        "epoch-0001.safetensors": 31.0,
        "epoch-0003.safetensors": 33.0,
    }
    assert {file.name: load_tensors(file)["w"].item() for file in wide2.glob("*.safetensors")} == {
        "epoch-0003.safetensors": 43.0
    }
    stage = read_json(wide2 / "stage.json")
    assert (stage["name"], stage["cut"]) == ("wide", "fold2")
    status = context.view.of("teachers")
    reached = [f"{title} 0.{number}00 on validation" for number, title in enumerate(TITLES, 1)]
    assert status.detail == ", ".join(reached) and status.folders == folders_of(context)
    assert shown(context)[0] == "> teachers"
    status.folders = []
    assert teachers.run(context, CUTS) == found and len(tune.trained) == 1
    assert shown(context) == [f"= teachers   reused  {title}" for title in TITLES]
    assert status.folders == folders_of(context) and status.state == "reused"
    assert not list(context.store.root.glob("work/*/*"))


def test_where_one_fails_the_others_are_kept(context, tune, shown):
    tune.happens = {"teacher-wide": ValueError("the loss is nan")}
    with pytest.raises(UserError, match=r"^teacher-wide failed: the loss is nan; the other teachers are kept$"):
        teachers.run(context, CUTS)
    narrow, wide, *others = folders_of(context)
    assert narrow.exists() and not wide.exists()
    (work,) = (context.store.root / "work" / "teachers").iterdir()
    assert tune.folders == [[work]] and context.view.of("teachers").folders == [work, narrow, *others]
    teachers.run(context, CUTS)
    assert tune.trained[1:] == [["teacher-wide"]] and tune.counts[1:] == [(0, 1, 3)]
    assert tune.folders[1:] == [[work, narrow, *others]] and tune.leases[1] == {wide.name}
    assert not any("begins anew" in line for line in shown(context))


def test_an_interrupted_stage_goes_on_with_the_teachers_that_have_not_ended(context, tune, shown, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(context.store, "tell", told.append)
    tune.happens = {"teacher-wide": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        teachers.run(context, CUTS)
    teachers.run(context, CUTS)
    assert tune.trained[1:] == [[f"teacher-{title}" for title in TITLES[1:]]]
    assert tune.counts[1:] == [(1, 4, 3)] and tune.known[1:] == [{1: [1, 3]}]
    assert len(told) == 1 and "teacher-wide resumes from an earlier snapshot" in told[0]
    assert not any("begins anew" in line for line in shown(context))


def test_journals_are_fetched_at_the_start_for_another_attempt_and_at_the_end(context, tune, monkeypatch):
    fetched: list[tuple[Any, Any, bool]] = []

    def fetch(store: Any, work: Any, exactly: bool = False) -> None:
        fetched.append((store, work.relative_to(context.store.root).parts[:2], exactly))

    for module in (teachers, tuning):
        monkeypatch.setattr(module, "fetch", fetch)
    tune.happens = {"teacher-wide": tuning.ProcessLost("teacher-wide: its process was lost")}
    teachers.run(context, CUTS)
    assert fetched == [(context.store, ("work", "teachers"), exactly) for exactly in (True, False, False)]


def test_who_waits_for_the_teachers_or_for_one_of_them_is_shown_how_far_they_are(context, tune, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    seen: dict[str, float] = {}
    end = tune.end

    def ended(plan: Plan, training: Training) -> None:
        if training.number == 1:
            context.view.of("teachers").done, context.view.of("teachers").total = 1, 4
            deadline = time.monotonic() + 60
            while set(seen.values()) != {0.25} and time.monotonic() < deadline:
                files = plan.store.root.glob(f"work/*/*/{LEASE}")
                seen.update({str(file): read_json(file)["fraction"] for file in files})
                time.sleep(0.02)
        end(plan, training)

    tune.end = ended
    teachers.run(context, CUTS)
    assert len(seen) == 5 and set(seen.values()) == {0.25}


@pytest.mark.usefixtures("tune")
@pytest.mark.parametrize("which", ["sharing", "working"])
def test_a_run_waits_for_another_that_makes_the_teachers_or_one_of_them(context, shown, monkeypatch, which):
    waits: list[Any] = []
    original = getattr(teachers, which)
    monkeypatch.setattr(teachers, which, lambda *args: waits.append(args[3]) or original(*args))
    teachers.run(context, CUTS)
    holder = lease.Holder("job 7", "jane", "vm", "now", 0.5, "")
    waits[0](holder)
    assert "  teachers: waiting; made by job 7 on node vm, 50 %" in shown(context)
