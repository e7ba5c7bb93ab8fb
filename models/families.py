"""The model families. Any of them may be a teacher or a student."""

from models.specs import MobnetSpec, TwoPathSpec
from models.table import Entry, Table

FAMILIES = Table(
    "family",
    {
        "mobnet": Entry(MobnetSpec, "models.mobnet:Mobnet"),
        "two_path": Entry(TwoPathSpec, "models.two_path:TwoPath"),
    },
    key="family",
)
"""An implementation is a SceneModel (models/scene_model.py), made from its settings, channels, scenes and groups."""
