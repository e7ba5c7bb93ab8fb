"""What cluster.yaml asks of AWS, of an imitation of it (moto) over HTTP."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

import pytest
import yaml

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
ERROR = "<Response><Errors><Error><Code>{}</Code><Message>none left</Message></Error></Errors></Response>"


@pytest.fixture
def aws(tmp_path, monkeypatch) -> Iterator[None]:
    from moto.server import ThreadedMotoServer
    from ray.autoscaler._private.aws import utils

    utils.resource_cache.cache_clear()  # Ray keeps its clients, and they the server's address
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "HOME": str(tmp_path),  # Ray keeps the cluster's SSH key there
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])  # PYTHONPATH=.
    reset = Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urlopen(reset).close()  # else it has what the process's other servers were asked for
    yield
    server.stop()


def cluster() -> tuple[Any, dict[str, Any]]:
    """The provider and the configuration, as `ray up cluster.yaml` makes them before it starts the head."""
    import boto3
    from ray.autoscaler._private.providers import _get_node_provider, _get_node_provider_cls
    from ray.autoscaler._private.util import prepare_config

    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    iam = boto3.client("iam")
    for name in ("stillhouse-head", "stillhouse-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    config = _get_node_provider_cls(config["provider"]).bootstrap_config(config)
    return _get_node_provider(config["provider"], config["cluster_name"], use_cache=False), config


def refuse_spot(provider: Any, code: str) -> list[str]:
    """Answer requests for spot instances with an error of EC2's. The subnets that were asked are added to the list."""
    from botocore.awsrequest import AWSResponse

    asked: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        form = parse_qs(request.body if isinstance(request.body, str) else request.body.decode())
        if "InstanceMarketOptions.MarketType" not in form:
            return None
        asked.extend(form["SubnetId"])
        response = AWSResponse(request.url, 400, {}, None)
        response._content = ERROR.format(code).encode()
        return response

    provider.ec2_fail_fast.meta.client.meta.events.register("before-send.ec2.RunInstances", answer)
    return asked


def started(provider: Any, config: dict[str, Any], kind: str) -> list[tuple[str, str | None]]:
    """Type and market of the instances that the autoscaler gets for one node."""
    settings = config["available_node_types"][kind]["node_config"]
    nodes = provider.create_node(settings, {"ray-node-type": "worker"}, 1)
    return [(node.instance_type, node.instance_lifecycle) for node in nodes.values()]


@pytest.mark.usefixtures("aws")
def test_workers_are_spot_instances_and_the_head_is_not():
    provider, config = cluster()
    assert started(provider, config, "head") == [("m6i.xlarge", None)]
    assert started(provider, config, "cpu") == [("c6i.4xlarge", "spot")]
    assert started(provider, config, "gpu") == [("g5.2xlarge", "spot")]
    assert len(provider.non_terminated_nodes({})) == 3


@pytest.mark.usefixtures("aws")
def test_where_no_zone_has_spot_they_are_on_demand():
    provider, config = cluster()
    asked = refuse_spot(provider, "InsufficientInstanceCapacity")
    assert started(provider, config, "gpu") == [("g5.2xlarge", None)]
    assert set(asked) == set(config["available_node_types"]["gpu"]["node_config"]["SubnetIds"])
    assert len(set(asked)) == 3


@pytest.mark.usefixtures("aws")
def test_another_refusal_is_no_reason_to_pay_the_full_price():
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    provider, config = cluster()
    refuse_spot(provider, "UnauthorizedOperation")
    with pytest.raises(NodeLaunchException, match="UnauthorizedOperation"):
        started(provider, config, "gpu")
    assert provider.non_terminated_nodes({}) == []


def test_ray_itself_takes_no_refusal_as_a_reason_for_another_node_type():
    """Once this fails, two node types for each role and a `priority` do what deploy/spot.py does."""
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
    from ray.core.generated import instance_manager_pb2

    messages: Any = instance_manager_pb2  # generated: pyright sees nothing in it

    def unavailable(status: int) -> set[str]:
        monitor = CloudResourceMonitor()
        monitor.notify([messages.InstanceUpdateEvent(instance_type="gpu", new_instance_status=status)])
        return set(monitor.get_recoverable_resource_availabilities())

    assert unavailable(messages.Instance.ALLOCATION_TIMEOUT) == {"gpu"}  # granted, and did not come up for an hour
    assert unavailable(messages.Instance.ALLOCATION_FAILED) == set()  # refused
