"""Predicts as a device would: the front end, then the exported file, over a whole recording in windows."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from features.audio import BadAudio, fit_length, read
from features.corpus import AUDIO_SUFFIXES, is_recording
from features.frontend import static_channel
from features.readers import unread
from features.settings import CHANNELS, CONTEXT
from features.spectrum import Samples, corrected
from models.heads import combine
from models.static import Static
from orchestrator.errors import UserError
from orchestrator.export.facts import read_facts
from orchestrator.export.onnx import OUTPUTS
from orchestrator.export.tflite import TFLiteModel
from orchestrator.export.verify import run_over
from orchestrator.export.writers import Prediction, Writer

WINDOWS = 64  # whose features are held at once
MIN_HOP = 0.01  # seconds
AHEAD = 4  # recordings of each core that are begun before the first of them is written


class Predictor:
    """An exported file of a run, with the front end and the decision that belong to it."""

    def __init__(self, model: Path) -> None:
        """Raises UserError where the file, or what is known of it, is not there or does not load."""
        about = model.with_suffix(".json")
        for needed in (model, about):
            if not needed.is_file():
                raise UserError(f"{needed} is not there; give the models/student.tflite of a run's folder")
        facts = read_facts(about)
        self.front_end, self.scenes = facts["front_end"], facts["scenes"]
        self.responses = facts.get("responses", {})
        self.shifts = facts.get("test_shifts", [0])
        self.group_of_scene = facts.get("group_of_scene", [])
        self.is_combined = facts.get("decision") == "combined"
        self.interpreter = TFLiteModel(model, facts.get("outputs", OUTPUTS))
        described = [1, self.front_end.n_mels, self.front_end.frames - 2 * CONTEXT, CHANNELS], len(self.scenes)
        takes = self.interpreter.input["shape"].tolist(), self.interpreter.outputs[0]["shape"][-1]
        if takes != described:
            raise UserError(
                f"{model} and {about.name} do not belong together: one is of {takes[1]} scenes for inputs {takes[0]}, "
                f"the other of {described[1]} for {described[0]}"
            )

    def predict(self, path: Path, recorder: str = "", hop: float | None = None) -> Prediction:
        """A whole recording, window by window. Raises BadAudio.

        A window is as long as the clips of the training; one begins every `hop` seconds (half a window), and the last
        one ends with the recording. A shorter recording is repeated. Where the training's recordings were corrected,
        one by a measured `recorder` is corrected too.
        """
        rate, length = self.front_end.sample_rate, self.front_end.samples
        recording = read(path, rate)
        samples, notes = recording.samples, list(recording.notes)
        if len(samples) < length + length // 1000:  # a codec's padding is no second window
            starts, windows = [0], [fit_length(samples, length, notes)]
        else:
            starts = starts_of(len(samples), length, round((hop or self.front_end.clip_seconds / 2) * rate))
            windows = [samples[start : start + length] for start in starts]
        rows = [
            self.probabilities(windows[first : first + WINDOWS], recorder) for first in range(0, len(windows), WINDOWS)
        ]
        return Prediction(len(samples) / rate, [start / rate for start in starts], torch.cat(rows), tuple(notes))

    def probabilities(self, windows: Sequence[Samples], recorder: str) -> Tensor:
        """(window, scene), of windows as long as the clips of the training."""
        if recorder in self.responses:
            response = np.array(self.responses[recorder], np.float32)
            windows = [corrected(samples, response) for samples in windows]
        # Half precision, as the shards of the training had it.
        static = [static_channel(torch.from_numpy(samples), self.front_end).half() for samples in windows]
        outputs, _ = run_over(self.interpreter, Static.of(torch.stack(static)), self.shifts)
        scene, *group = (torch.from_numpy(rows) for rows in outputs)
        if self.is_combined:
            scene = combine(scene, group[0], torch.tensor(self.group_of_scene))
        return scene


def starts_of(length: int, window: int, hop: int) -> list[int]:
    """Where windows begin that cover `length` samples: every `hop`, and one that ends where the recording does."""
    assert length >= window > 0 and hop > 0
    starts = list(range(0, length - window + 1, hop))
    return starts if starts[-1] + window == length else [*starts, length - window]


def predict(model: Path, named: Sequence[Path], recorder: str, hop: float | None, write: Writer) -> int:
    """Write the predictions of recordings, and of those in folders. Returns the exit code: 2 if any was bad.

    Raises UserError where the recorder is not known, the hop is longer than a window, or a folder has no recording.
    """
    predictor = Predictor(model)
    known, window = predictor.responses, predictor.front_end.clip_seconds
    if recorder and recorder not in known:
        raise UserError(f"{model} knows no response of recorder '{recorder}'; it has {', '.join(known) or 'none'}")
    if hop is not None and not MIN_HOP <= hop <= window:
        raise UserError(f"--hop must be from {MIN_HOP} to {window} s, the length of a window, not {hop}")
    paths = [path for name in named for path in recordings_in(name)]
    for line in unread(others_in(named)):
        Console(stderr=True).print(line, markup=False, highlight=False)
    more = [Predictor(model) for _ in range(min(os.cpu_count() or 1, len(paths)) - 1)]
    bad = 0
    for path, predicted in side_by_side(follow(paths), [predictor, *more], recorder, hop):
        try:
            write.prediction(path, predictor.scenes, predicted.result())
        except (BadAudio, OSError) as error:  # also of the disk: the other recordings are predicted
            write.refused(path, str(error) if isinstance(error, BadAudio) else error.strerror or str(error))
            bad += 1
    write.end()
    return 2 if bad else 0


def side_by_side(
    paths: Iterable[Path], predictors: Sequence[Predictor], recorder: str, hop: float | None
) -> Iterator[tuple[Path, Future[Prediction]]]:
    """Each recording and its prediction, in their order: as many at once as there are predictors, a core each."""
    free = Queue[Predictor]()
    for predictor in predictors:
        free.put(predictor)

    def predict_one(path: Path) -> Prediction:
        predictor = free.get()
        try:
            return predictor.predict(path, recorder, hop)
        finally:
            free.put(predictor)

    torch.set_num_threads(1)
    waiting: deque[tuple[Path, Future[Prediction]]] = deque()
    with ThreadPoolExecutor(len(predictors)) as pool:
        try:
            for path in paths:
                waiting.append((path, pool.submit(predict_one, path)))
                if len(waiting) > AHEAD * len(predictors):
                    yield waiting.popleft()
            yield from waiting
        except BaseException:  # such as Ctrl-C: what has not begun is left out
            pool.shutdown(cancel_futures=True)
            raise


def recordings_in(named: Path) -> list[Path]:
    """The recordings in a folder and its folders, by their names' endings; a file itself. Raises UserError for none."""
    if not named.is_dir():
        return [named]
    found = [path for path in named.rglob("*") if is_recording(path.relative_to(named)) and path.is_file()]
    if not found:
        raise UserError(f"{named} has no recording ({', '.join(AUDIO_SUFFIXES)})")
    return sorted(found)


def others_in(named: Sequence[Path]) -> Counter[str]:
    """How many files of the folders are no recordings, by their names' endings; hidden ones do not count."""
    files = (file.relative_to(name) for name in named if name.is_dir() for file in name.rglob("*") if file.is_file())
    shown = (file for file in files if not any(part.startswith(".") for part in file.parts))
    return Counter(file.suffix.lower() or "without an ending" for file in shown if not is_recording(file))


class Speed(ProgressColumn):
    """Recordings a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} recordings/s")  # none until the second one


def follow(paths: Sequence[Path]) -> Iterator[Path]:
    """One after another; a terminal shows how far it is, and how fast."""
    console = Console(stderr=True)
    if len(paths) == 1 or not console.is_terminal:
        yield from paths
        return
    columns = (BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(paths)
