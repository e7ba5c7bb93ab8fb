"""What a device would say: the front end, then the exported file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from features.audio import BadAudio, read
from features.frontend import static_channel, with_deltas
from features.settings import FrontEnd
from models.heads import combine
from orchestrator.artifacts import read_json
from orchestrator.errors import UserError
from orchestrator.export.tflite import TFLiteModel


class Device:
    """An exported file of a run, with the front end and the decision that belong to it."""

    def __init__(self, model: Path) -> None:
        """Raises UserError where the file, or what is known of it, is not there or does not load."""
        about = model.with_suffix(".json")
        for needed in (model, about):
            if not needed.is_file():
                raise UserError(f"{needed} is not there; give the models/student.tflite of a run's folder")
        self.facts = read_json(about)
        self.front_end = FrontEnd(**self.facts["front_end"])
        self.scenes: list[str] = self.facts["scenes"]
        self.interpreter = TFLiteModel(model)

    def hear(self, path: Path) -> tuple[Tensor, tuple[str, ...]]:
        """Probabilities (scene,) of a recording, and what was done to it. Raises BadAudio."""
        recording = read(path, self.front_end.sample_rate, self.front_end.clip_seconds)
        # Half precision, as the shards of the training had it.
        static = static_channel(torch.from_numpy(recording.samples), self.front_end).half().float()
        scene, group = (torch.from_numpy(rows) for rows in self.interpreter.run(with_deltas(static[None]).numpy()))
        if self.facts["decision"] == "combined":
            scene = combine(scene, group, torch.tensor(self.facts["group_of_scene"]))
        return scene[0], recording.notes


def predict(model: Path, recordings: Sequence[Path], say: Callable[[str], None]) -> int:
    """Print a line a recording: scene, its probability, the two runners-up. Returns the exit code: 2 if any was bad."""
    device = Device(model)
    bad = 0
    for path in recordings:
        try:
            scene, done = device.hear(path)
        except BadAudio as error:
            say(f"{path}\t{error}")
            bad += 1
            continue
        best = scene.topk(min(3, len(scene)))
        words = [
            f"{device.scenes[index]} {value:.3f}" for value, index in zip(*map(torch.Tensor.tolist, best), strict=True)
        ]
        notes = f"\t({'; '.join(done)})" if done else ""
        say(f"{path}\t{', '.join(words)}{notes}")
    return 2 if bad else 0
