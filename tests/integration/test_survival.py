"""A run on several raylets and a real S3 server, from which everything is taken once; its result stays the same."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.machines import Driver, Machines, Storage, ended_trials, exported
from features.generated import CorpusSize, make_corpus

pytestmark = pytest.mark.integration

RECIPE = {"cycle_ends": [2, 6, 16], "crop_frames": 32, "batch_size": 8}
EXPERIMENT = {
    "name": "survivor",
    "corpus": {"layout": "tau", "validation_fraction": 0.3},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "teachers": {
        "one": {"model": {"width": 2}, "recipe": RECIPE, "ensemble": [6, 16]},
        "two": {"model": {"width": 3}, "recipe": RECIPE, "ensemble": [16]},
    },
    "student": {"recipe": {**RECIPE, "soft_weight": 0.5}, "average": [6, 16]},
    # No trial is stopped early, so that the best one does not depend on which is faster.
    "search": {"trials": 3, "cycle_ends": [2, 6, 16], "stopping": "none", "finalists": 0},
    "plain": False,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("survival")
    make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
    experiment = {**EXPERIMENT, "corpus": {**EXPERIMENT["corpus"], "root": str(home / "corpus")}}
    (home / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    return home


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "")  # restored afterwards, like the others that Storage sets
        patch.setenv("AWS_SECRET_ACCESS_KEY", "")
        patch.setenv("AWS_DEFAULT_REGION", "")
        server = Storage()
        yield server
        server.server.stop()


@pytest.fixture(scope="module")
def machines(server) -> Iterator[Machines]:
    assert server.port  # its credentials are the raylets' too
    machines = Machines()
    yield machines
    machines.cluster.shutdown()


class Watched:
    """A run under way, started again whenever its driver is gone."""

    def __init__(self, home: Path, storage: str, machines: Machines) -> None:
        self.home, self.storage, self.machines = home, storage, machines
        self.driver = Driver(home, storage, machines.address)

    def again(self) -> None:
        self.driver = Driver(self.home, self.storage, self.machines.address)

    def wait_for(self, sign: str) -> None:
        """Until a file that matches is in the work in progress."""
        self.until(lambda: bool(list((self.home / "mirror").glob(f"*/work/{sign}"))), sign)

    def lose(self, title: str) -> None:
        """Kill a process of that title as soon as there is one: the one that was seen last may be gone by now."""
        self.until(lambda: self.machines.lose_process((title,)), title)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 900
        while not holds():
            assert self.driver.is_running(), self.driver.log.read_text()
            assert time.monotonic() < deadline, f"no {what}"
            time.sleep(0.1)

    def finish(self) -> None:
        self.driver.process.wait(timeout=900)
        assert self.driver.process.returncode == 0, self.driver.log.read_text()


def test_whatever_is_taken_from_a_run_its_result_is_the_same(home, machines, server):
    quiet = Watched(home, server.uri("quiet"), machines)
    quiet.finish()
    expected = exported(server.uri("quiet"), home)

    storage = server.uri("disturbed")
    run = Watched(home, storage, machines)
    run.lose("Training")
    run.wait_for("teachers/*/trials/teacher-*/latest.safetensors")
    machines.lose_worker()
    run.wait_for("search/*/trials/student-*/latest.safetensors")
    run.driver.end(graceful=False)
    ended = ended_trials(storage, home)
    run.again()
    run.wait_for("search/*/trials/student-03*/latest.safetensors")
    run.driver.end(graceful=True)
    assert run.driver.process.returncode == 130
    printed = run.driver.log.read_text()
    assert "the same command goes on from there" in printed and "Traceback" not in printed
    ended |= ended_trials(storage, home)
    assert {"teacher-one", "teacher-two"} <= set(ended)
    run.again()
    run.wait_for("final/*/trials/final-*/latest.safetensors")
    ended |= ended_trials(storage, home)
    run.lose("Final")
    server.fail(3.0)
    time.sleep(2.0)
    machines.lose_everything()
    run.driver.process.wait(timeout=600)
    assert run.driver.process.returncode != 0
    run.again()
    run.finish()

    last = ended_trials(storage, home)
    assert set(last) > set(ended) and {name: last[name] for name in ended} == ended  # nothing finished is done again
    for name, rows in last.items():
        assert [row["epoch"] for row in rows] == list(range(1, 17)), name
    assert exported(storage, home) == expected


def test_two_runs_of_one_experiment_at_once(home, machines, server):
    """The second says who is at work and stops; the first is not disturbed."""
    first = Watched(home, server.uri("shared"), machines)
    first.wait_for("features/*/versions.json")
    second = Driver(home, server.uri("shared"), machines.address)
    assert second.process.wait(timeout=90) == 2
    refusal = rf"the run survivor-\w+ is already being made by process {first.driver.process.pid} of .+ on .+, since 20"
    assert re.search(refusal, second.log.read_text())
    assert first.driver.is_running()
    first.driver.end(graceful=False)
