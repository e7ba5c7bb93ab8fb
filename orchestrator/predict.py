"""What a device would say: the front end, then the exported file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from features.audio import BadAudio, read
from features.frontend import static_channel, with_deltas
from features.settings import FrontEnd
from models.heads import combine
from orchestrator.artifacts import read_json
from orchestrator.errors import UserError
from orchestrator.export.tflite import TFLiteModel


def predict(model: Path, recordings: Sequence[Path], say: Callable[[str], None]) -> int:
    """Print a line a recording: scene, its probability, the two runners-up. Returns the exit code: 2 if any was bad."""
    about = model.with_suffix(".json")
    for needed in (model, about):
        if not needed.is_file():
            raise UserError(f"{needed} is not there; give the models/student.tflite of a run's folder")
    facts = read_json(about)
    front_end = FrontEnd(**facts["front_end"])
    interpreter = TFLiteModel(model)
    bad = 0
    for path in recordings:
        try:
            recording = read(path, front_end.sample_rate, front_end.clip_seconds)
        except BadAudio as error:
            say(f"{path}\t{error}")
            bad += 1
            continue
        # Half precision, as the shards of the training had it.
        static = static_channel(torch.from_numpy(recording.samples), front_end).half().float()
        scene, group = (torch.from_numpy(rows) for rows in interpreter.run(with_deltas(static[None]).numpy()))
        if facts["decision"] == "combined":
            scene = combine(scene, group, torch.tensor(facts["group_of_scene"]))
        best = scene[0].topk(min(3, scene.shape[1]))
        words = [
            f"{facts['scenes'][index]} {value:.3f}"
            for value, index in zip(*map(torch.Tensor.tolist, best), strict=True)
        ]
        notes = f"\t({'; '.join(recording.notes)})" if recording.notes else ""
        say(f"{path}\t{', '.join(words)}{notes}")
    return 2 if bad else 0
