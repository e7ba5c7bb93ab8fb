"""Predicts as a device would: the front end, then the exported file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from features.audio import BadAudio, read
from features.frontend import static_channel
from features.settings import FrontEnd
from features.spectrum import corrected
from models.heads import combine
from orchestrator.errors import UserError
from orchestrator.export.onnx import OUTPUTS
from orchestrator.export.tflite import TFLiteModel
from orchestrator.export.verify import run_over
from orchestrator.storage.files import read_json


class Predictor:
    """An exported file of a run, with the front end and the decision that belong to it."""

    def __init__(self, model: Path) -> None:
        """Raises UserError where the file, or what is known of it, is not there or does not load."""
        about = model.with_suffix(".json")
        for needed in (model, about):
            if not needed.is_file():
                raise UserError(f"{needed} is not there; give the models/student.tflite of a run's folder")
        older = {"outputs": OUTPUTS, "responses": {}, "test_shifts": (0,)}  # which older runs do not record
        self.facts = older | read_json(about)
        self.front_end = FrontEnd(**self.facts["front_end"])
        self.scenes: list[str] = self.facts["scenes"]
        self.interpreter = TFLiteModel(model, self.facts["outputs"])

    def predict(self, path: Path, recorder: str = "") -> tuple[Tensor, tuple[str, ...]]:
        """Probabilities (scene,) of a recording, and what was done to it. Raises BadAudio.

        Where the training's recordings were corrected, one by a measured `recorder` is corrected too.
        """
        recording = read(path, self.front_end.sample_rate, self.front_end.clip_seconds)
        samples = recording.samples
        if recorder in self.facts["responses"]:
            samples = corrected(samples, np.array(self.facts["responses"][recorder], np.float32))
        # Half precision, as the shards of the training had it.
        static = static_channel(torch.from_numpy(samples), self.front_end).half().numpy()
        outputs, _ = run_over(self.interpreter, static[None], self.facts["test_shifts"])
        scene, *group = (torch.from_numpy(rows) for rows in outputs)
        if self.facts["decision"] == "combined":
            scene = combine(scene, group[0], torch.tensor(self.facts["group_of_scene"]))
        return scene[0], recording.notes


def predict(model: Path, recordings: Sequence[Path], recorder: str, echo: Callable[[str], None]) -> int:
    """Print a line a recording: scene, its probability, the two runners-up. Returns the exit code: 2 if any was bad."""
    predictor = Predictor(model)
    known = predictor.facts["responses"]
    if recorder and recorder not in known:
        raise UserError(f"{model} knows no response of recorder '{recorder}'; it has {', '.join(known) or 'none'}")
    bad = 0
    for path in recordings:
        try:
            scene, done = predictor.predict(path, recorder)
        except BadAudio as error:
            echo(f"{path}\t{error}")
            bad += 1
            continue
        best = scene.topk(min(3, len(scene)))
        words = [
            f"{predictor.scenes[index]} {value:.3f}"
            for value, index in zip(*map(torch.Tensor.tolist, best), strict=True)
        ]
        notes = f"\t({'; '.join(done)})" if done else ""
        echo(f"{path}\t{', '.join(words)}{notes}")
    return 2 if bad else 0
