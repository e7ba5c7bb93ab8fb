"""cluster.yaml against Ray's own schema."""

from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


@pytest.mark.integration
def test_it_passes_rays_schema():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(CLUSTER.read_text()))  # fills in the provider's defaults, as `ray up` does
    validate_config(config)
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
