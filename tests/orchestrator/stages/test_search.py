"""The search's stage around its trials: where it works, what it tells Tune, and that it goes on where it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.monitor.view import Bar
from orchestrator.stages import search
from orchestrator.stages.context import Context, record
from orchestrator.storage.files import write_json
from orchestrator.storage.store import Store
from orchestrator.storage.work import Work, working
from orchestrator.training import journal
from orchestrator.training.record import Settings, State, Training

SPACE = "{recipe.mixup_alpha: {low: 0.1, high: 1}}"
SEARCH = f"{{trials: 4, cycle_ends: [1, 2, 3], finalists: 0, stopping: none, space: {SPACE}}}"


@pytest.fixture
def config(small):
    return small(f"search={SEARCH}", "resources.gpus_per_trial=0.5")


@pytest.fixture
def context(config, context_of) -> Context:
    return context_of(config, "search")


def publish_it(context: Context, _folds: object, key: str, *_: object) -> None:
    with context.store.publish("search", key) as target:
        write_json(target / "best.json", {"trial": "student-01", "settings": {}})
        record(target, 1.0)


def test_the_search_works_in_a_folder_of_its_key_and_is_found_in_its_artifact(
    config, store, context, context_of, shown, data, monkeypatch
):
    told = list[tuple[object, ...]]()
    key = search.key_for(config, [data], ["taught"])
    folder, artifact = (store.root / place / "search" / key for place in ("work", "artifacts"))

    def noted(name: str, *given: object) -> None:
        told.append((name, *given, context.view.of("search").folders))

    monkeypatch.setattr(search, "mend", lambda *given: noted("mended", *given))
    monkeypatch.setattr(search, "until_ended", lambda _, *given: noted("trained", *given))
    monkeypatch.setattr(search, "publish", publish_it)
    found = search.run(context, [data], [Path("taught")])
    assert found == search.Search(artifact, "student-01", {})
    assert told == [(name, store, folder, [folder]) for name in ("mended", "trained")]
    assert context.view.of("search").folders == [artifact] and not folder.exists()
    first, last = shown(context)
    assert first == "> search" and last.startswith("+ search ")
    again = context_of(config, "search")
    assert search.run(again, [data], [Path("taught")]) == found
    assert shown(again) == ["= search     reused  best is student-01"]
    assert again.view.of("search").folders == [artifact]


def test_a_search_that_another_run_finishes_meanwhile_is_not_trained_again(context, data, monkeypatch):
    given = list[Any]()

    @contextmanager
    def after_another(store: Store, kind: str, key: str, *rest: Any) -> Iterator[Work]:
        given.extend(rest)
        with working(store, kind, key, *rest) as work:
            publish_it(context, [data], key)
            yield work

    monkeypatch.setattr(search, "working", after_another)
    monkeypatch.setattr(search, "until_ended", lambda *_: pytest.fail("it is trained again"))
    found = search.run(context, [data], [])
    assert found and found.best == "student-01"
    wait, so_far, fetch = given
    assert (wait.__func__, so_far.__func__, fetch) == (Bar.wait, Bar.so_far, journal.fetch)


def test_a_search_that_goes_on_runs_what_is_left(store, context, monkeypatch):
    folder, told, fetched = store.root / "work" / "search" / "key", dict[str, Any](), list[object]()
    states: list[State] = ["finished", "running", "running"]
    for number, state in enumerate(states, 1):
        Training("search", f"student-{number}", number, 3, {"recipe.mixup_alpha": 0.4}, state).write(store, folder)

    monkeypatch.setattr(search, "run_trials", lambda *given, **options: told.update(options, recorder=given[2]))
    monkeypatch.setattr(search, "fetch", lambda *given: fetched.append(given))
    work: Any = SimpleNamespace(folder=folder)
    search.train_missing(context, [], work, Bar(context.view, "search", None, context.view.of("search")))
    recorder = told["recorder"]
    assert (told["num_samples"], recorder.ended, recorder.total(), recorder.epochs) == (3, 1, 4, 3)
    assert told["search_alg"].suggest("x")["trial"]["trial"] == "student-2"
    assert fetched == [(store, folder)]


def test_what_the_trials_of_a_search_have_in_common(store, context, tmp_path):
    plan = search.plan_of(context, tmp_path)
    assert (plan.run, plan.store, plan.work, plan.device) == ("small-1", store, tmp_path, "cuda")
    assert plan.reuses_processes
    training = Training("search", "student-1", 1, 3, {"recipe.mixup_alpha": 0.7})
    assert plan.task_of(training).recipe.mixup_alpha == 0.7 and plan.keep_of(training) == ()


def test_numbers_of_what_is_chosen_have_three_digits():
    own: Settings = {"recipe.soft_weight": 0.5, "recipe.batch_size": 16}
    chosen: Settings = {"recipe.soft_weight": 0.0067812, "recipe.batch_size": 1024}
    assert search.difference(chosen, own) == " with recipe.soft_weight 0.00678, recipe.batch_size 1024"
