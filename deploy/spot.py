"""Instances for Ray's autoscaler on AWS: spot, and on-demand where there is no spot (cluster.yaml)."""

from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

# EC2's words for: nobody gets one now, your account has its share, your price is too low.
NO_SPOT = ("InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow")


class SpotFirst(AWSNodeProvider):
    """Ray's own provider, which tries every zone. What it is refused as spot it asks for at the full price."""

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        try:
            return super().create_node(node_config, tags, count)
        except NodeLaunchException as refusal:
            if "InstanceMarketOptions" not in node_config or refusal.category not in NO_SPOT:
                raise
            on_demand = {key: value for key, value in node_config.items() if key != "InstanceMarketOptions"}
            return super().create_node(on_demand, tags, count)
