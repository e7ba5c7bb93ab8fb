"""cluster.yaml and deploy/local.yaml against Ray's own schema."""

import subprocess
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "deploy/local.yaml")


def prepared(file: str) -> dict[str, Any]:
    """As `ray up` reads it: with the provider's defaults, checked."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((ROOT / file).read_text()))
    validate_config(config)
    return config


def test_on_aws_only_the_head_runs_before_there_is_work():
    types = prepared("cluster.yaml")["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    limits = {name: (kind["min_workers"], kind["max_workers"]) for name, kind in types.items()}
    assert limits == {"head": (0, 0), "cpu": (0, 8), "gpu": (0, 4)}
    spot = {name: "InstanceMarketOptions" in kind["node_config"] for name, kind in types.items()}
    assert spot == {"head": False, "cpu": True, "gpu": True}


def test_all_machines_that_one_has_are_used():
    config = prepared("deploy/local.yaml")
    (machine,) = config["available_node_types"].values()
    assert machine["min_workers"] == machine["max_workers"] == len(config["provider"]["worker_ips"]) == 2


@pytest.mark.parametrize("file", FILES)
def test_nothing_private_or_large_is_copied_and_all_of_the_source_is(file):
    patterns = prepared(file)["rsync_exclude"]

    def stays(path: str) -> bool:
        return any(fnmatch(part, pattern) for part in PurePosixPath(path).parts for pattern in patterns)

    for path in (".git/config", ".venv/bin/python", "runs/demo-1/log.txt", "data/a.wav", ".env", ".env.local"):
        assert stays(path), path
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [path for path in tracked.splitlines() if stays(path)] == []


@pytest.mark.parametrize("file", FILES)
def test_ray_is_started_with_the_installation_first_on_the_path(file):
    config = prepared(file)
    (place,) = config["file_mounts"]
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert commands[-1].startswith(f"export PATH={place}/.venv/bin:$PATH")
