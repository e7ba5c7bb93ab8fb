"""Ray's exporter, the shipped Prometheus configuration and the shipped dashboard, as one chain."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from orchestrator.monitor.telemetry import GAUGES, TAGS
from tests.ports import free_ports

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
DISCOVERY = "/tmp/ray/prom_metrics_service_discovery.json"  # where Ray documents it
PATIENCE = 400.0  # seconds; it takes 20 on a machine that does nothing else


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads((MONITORING / "grafana-dashboard.json").read_text())


def expressions(dashboard: dict[str, Any]) -> list[str]:
    """The PromQL of every panel."""
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_shows_every_metric_and_uses_no_other(dashboard):
    variables = [v["definition"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    used = {name for text in expressions(dashboard) for name in re.findall(r"\bray_\w+", text)}
    assert used == {f"ray_stillhouse_{name}" for name in GAUGES}
    for text in expressions(dashboard) + variables:
        selected = [name for block in re.findall(r"{(.*?)}", text) for name in re.findall(r"(\w+)\s*[=!]", block)]
        grouped = [name for block in re.findall(r"by \((.*?)\)", text) for name in block.split(", ")]
        asked = re.findall(r"label_values\(ray_stillhouse_epoch.*?, (\w+)\)$", text)
        assert {*selected, *grouped, *asked} <= set(TAGS), text


def test_every_query_of_the_dashboard_is_of_the_chosen_source_run_and_trial(dashboard):
    source, *tags = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert [variable["name"] for variable in tags] == list(TAGS)
    asking = [*dashboard["panels"], *tags, *(target for panel in dashboard["panels"] for target in panel["targets"])]
    assert all(part["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for part in asking)
    for text in expressions(dashboard):
        assert '{run=~"$run", stage=~"$stage", trial=~"$trial"}' in text


def test_panels_have_an_id_each_and_do_not_overlap(dashboard):
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.fixture
def configuration(tmp_path) -> Path:
    """The shipped prometheus.yml, for a Ray in `tmp_path`, with a shorter interval."""
    shipped = (MONITORING / "prometheus.yml").read_text()
    changed = shipped.replace(DISCOVERY, f"{tmp_path}/{Path(DISCOVERY).name}").replace(": 10s", ": 1s")
    assert (changed.count(str(tmp_path)), changed.count(": 1s")) == (1, 2)
    file = tmp_path / "prometheus.yml"
    file.write_text(changed)
    return file


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Shorter than pytest's: Ray's sockets are below it, and their paths are limited to 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"NOT TESTED: {name} is not installed (apt-get install prometheus)")


@contextmanager
def running(*command: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(180)


def ask(port: int, query: str) -> dict[tuple[str, ...], float]:
    """A query's answer: run, stage and trial, as far as it has them -> value."""
    with urlopen(f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}", timeout=60) as answer:
        found = json.load(answer)["data"]["result"]
    return {tuple(one["metric"].get(tag, "") for tag in TAGS): float(one["value"][1]) for one in found}


@pytest.mark.integration
def test_promtool_accepts_the_configuration():
    done = subprocess.run(
        [program("promtool"), "check", "config", MONITORING / "prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


@pytest.mark.integration
def test_prometheus_scrapes_what_actors_and_trials_report(configuration, tmp_path, dashboard):
    (port,) = free_ports(1)
    prometheus = (program("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path}/tsdb")
    here = Path(__file__).parent
    final, search = ("demo-0123", "final", "student"), ("demo-0123", "search", "student-00")
    both = {
        "loss": 0.5,
        "accuracy": 0.75,
        "log_loss": 1.25,
        "learning_rate": 0.125,
        "clips_per_second": 64.0,
    }
    expected = {name: {final: value, search: value} for name, value in both.items()}
    expected["epoch"] = {final: 4.0, search: 3.0}
    with (
        running(sys.executable, here / "exporter.py", tmp_path, log=tmp_path / "ray.log") as ray,
        running(*prometheus, f"--web.listen-address=127.0.0.1:{port}", log=tmp_path / "prometheus.log"),
    ):
        found = {}
        end = time.monotonic() + PATIENCE
        while found != expected and time.monotonic() < end and ray.poll() is None:
            time.sleep(0.5)
            with suppress(OSError):
                found = {name: ask(port, f"ray_stillhouse_{name}") for name in GAUGES}
        assert found == expected, (tmp_path / "ray.log").read_text()
        for text in expressions(dashboard):
            chosen = re.sub(r"\$\w+", ".*", text)
            assert len(ask(port, chosen)) == 2, text
        (tmp_path / "stop").touch()
        assert ray.wait(180) == 0, (tmp_path / "ray.log").read_text()
