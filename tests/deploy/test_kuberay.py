"""The manifests for KubeRay against the fields that its custom resources have."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from orchestrator.cli.main import cli

MANIFESTS = Path(__file__).parents[2] / "deploy" / "kuberay"
TYPES = yaml.safe_load((Path(__file__).parent / "kuberay_fields.yaml").read_text())


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((MANIFESTS / name).read_text())


def mistakes(value: Any, kind: str, where: str) -> Iterator[str]:
    """What of `value` the custom resource does not have, lacks, or holds in another form."""
    if kind == "":
        if isinstance(value, dict | list):
            yield f"{where} is no single value"
    elif kind == "{}":
        yield from (f"{where}.{key} is no text" for key, one in value.items() if not isinstance(one, str))
    elif kind.startswith("["):
        for index, one in enumerate(value):
            yield from mistakes(one, kind[1:-1], f"{where}[{index}]")
    else:
        fields = TYPES[kind]["fields"]
        yield from (f"{where} lacks {key}" for key in TYPES[kind].get("required", ()) if key not in value)
        yield from (f"{where} has no {key}" for key in value if key not in fields)
        for key in value.keys() & fields.keys():
            yield from mistakes(value[key], fields[key], f"{where}.{key}")


@pytest.mark.parametrize(("name", "kind"), [("raycluster.yaml", "RayCluster"), ("rayjob.yaml", "RayJob")])
def test_every_field_is_one_of_kuberays(name, kind):
    found = manifest(name)
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", kind)
    assert list(mistakes(found, kind, kind)) == []


def test_the_check_finds_what_is_wrong():
    broken = manifest("raycluster.yaml")
    (cpu, gpu) = broken["spec"]["workerGroupSpecs"]
    del cpu["groupName"]
    gpu["rayStartParams"] = {"num-gpus": 1}
    broken["spec"]["headGroupSpec"]["template"]["spec"]["container"] = []
    assert sorted(mistakes(broken, "RayCluster", "")) == [
        ".spec.headGroupSpec.template.spec has no container",
        ".spec.workerGroupSpecs[0] lacks groupName",
        ".spec.workerGroupSpecs[1].rayStartParams.num-gpus is no text",
    ]


def test_the_jobs_cluster_is_the_cluster():
    assert manifest("rayjob.yaml")["spec"]["rayClusterSpec"] == manifest("raycluster.yaml")["spec"]


def test_no_worker_runs_before_there_is_work_and_the_head_trains_nothing():
    spec = manifest("raycluster.yaml")["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    limits = {g["groupName"]: (g["minReplicas"], g["replicas"], g["maxReplicas"]) for g in spec["workerGroupSpecs"]}
    assert limits == {"cpu": (0, 0, 8), "gpu": (0, 0, 4)}
    requests = [g["template"]["spec"]["containers"][0]["resources"]["requests"] for g in spec["workerGroupSpecs"]]
    assert ["nvidia.com/gpu" in one for one in requests] == [False, True]


def test_ray_is_the_version_that_is_pinned():
    pins = (MANIFESTS.parents[1] / "pyproject.toml").read_text()
    assert f"ray[data,default,tune]=={manifest('raycluster.yaml')['spec']['rayVersion']}" in pins


def test_the_command_is_one_that_stillhouse_has():
    python, module, package, *command = shlex.split(manifest("rayjob.yaml")["spec"]["entrypoint"])
    assert (python, module, package) == ("python", "-m", "orchestrator")
    assert command[-2] == "--storage" and command[-1].startswith("s3://")
    shown = CliRunner().invoke(cli, ["config", "show", *command[1:-2]])  # the same experiment and settings
    assert shown.exit_code == 0 and yaml.safe_load(shown.output)["corpus"]["root"] == "/data/TAU-2020"
