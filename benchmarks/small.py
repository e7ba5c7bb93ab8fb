"""A small experiment on a generated corpus of its own, for what is measured about the orchestration."""

from collections.abc import Sequence
from pathlib import Path

from features.generated import CorpusSize, make_corpus
from orchestrator.config.experiment import Experiment
from orchestrator.config.loading import load

RECIPE = "{cycle_ends: [1, 2], crop_frames: 32, batch_size: 8}"
SETTINGS = (
    "features={clip_seconds: 1.0, n_mels: 32}",
    "corpus.validation_fraction=0.3",
    f"teachers={{one: {{model: {{width: 2}}, recipe: {RECIPE}, ensemble: [2]}}}}",
    "student.recipe={cycle_ends: [1, 2], crop_frames: 32, batch_size: 8, soft_weight: 0.5}",
    "student.average=[1, 2]",
    "corpus.generate=null",
    "plain=false",
    "final.seeds=1",
)


def experiment(home: Path, settings: Sequence[str], segments: int) -> Experiment:
    """Make the corpus below `home`, `segments` recordings a place, and the experiment."""
    make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=segments, seconds=1.0), seed=5)
    return load("demo", [*SETTINGS, f"corpus.root={home / 'corpus'}", *settings])
