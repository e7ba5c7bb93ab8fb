"""Features: clips a second, decoding included, against a loop over librosa.

Each has a process of its own, as a person would run it: in one process, what one of them frees decides how the
allocator serves the other, which moves librosa between 14 and 20 ms a clip here.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import librosa
import numpy as np
import torch

from features.audio import read
from features.corpus import Clip
from features.frontend import static_channel
from features.generated import CorpusSize, make_corpus
from features.precompute import precompute
from features.settings import FrontEnd

CLIPS = 7680  # a run, in shards; the TAU set has three times as many
SAMPLE = 60  # in a timed pass of the single-process ones
PASSES = 7
ROUNDS = 2


def by_librosa(path: Path, settings: FrontEnd) -> np.ndarray:
    samples, _ = librosa.load(path, sr=None)
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        n_mels=settings.n_mels,
        htk=True,
        norm=None,
    )
    values = np.log(power + 1e-8)
    return ((values - values.min()) / (values.max() - values.min())).astype(np.float16)


def by_us(path: Path, settings: FrontEnd) -> np.ndarray:
    recording = read(path, settings.sample_rate, settings.clip_seconds)
    return static_channel(torch.from_numpy(recording.samples), settings).half().numpy()


def rate(one: Callable[[Path, FrontEnd], np.ndarray], paths: list[Path], settings: FrontEnd) -> float:
    started = time.perf_counter()
    for path in paths:
        one(path, settings)
    return len(paths) / (time.perf_counter() - started)


def main(_arguments: list[str]) -> None:
    import ray

    from orchestrator.cluster.connection import connected

    torch.set_num_threads(1)
    settings = FrontEnd()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "corpus"
        make_corpus(root, CorpusSize(cities=1, train_locations=2, train_segments=2, test_locations=1))
        originals = sorted((root / "audio").glob("*.wav"))
        sample = originals[:SAMPLE]
        spawn = get_context("spawn")
        with (
            ProcessPoolExecutor(1, spawn, torch.set_num_threads, (1,)) as librosa_s,
            ProcessPoolExecutor(1, spawn, torch.set_num_threads, (1,)) as our_own,
        ):
            librosa_s.submit(rate, by_librosa, sample, settings).result()
            our_own.submit(rate, by_us, sample, settings).result()
            # Passes in turn: what else the machine does meets both.
            pairs = [
                (
                    librosa_s.submit(rate, by_librosa, sample, settings).result(),
                    our_own.submit(rate, by_us, sample, settings).result(),
                )
                for _ in range(PASSES)
            ]
        theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(mine / other for other, mine in pairs)
        print(f"10 s clips, 44.1 kHz, 24-bit WAV; medians of {PASSES} passes over {len(sample)} clips, one thread")
        print(f"librosa loop           {theirs:8.1f} clips/s")
        print(f"stillhouse, 1 process  {ours:8.1f} clips/s   {ratio:.2f} x librosa")
        clips = []
        for index in range(CLIPS):  # hard links: many files without many bytes
            path = f"audio/copy-{index:05d}.wav"
            os.link(originals[index % len(originals)], root / path)
            clips.append(Clip(path, "bus", "train", path))

        def computed(name: str, parallel: bool) -> float:
            shards = Path(folder) / name
            os.sync()  # what was written before is written meanwhile otherwise
            started = time.perf_counter()
            precompute(root, clips, settings, shards, parallel=parallel)
            seconds = time.perf_counter() - started
            shutil.rmtree(shards)
            return CLIPS / seconds

        with connected():
            cold = computed("cold", parallel=True)
            rounds = [
                (computed(f"single-{index}", parallel=False), computed(f"warm-{index}", parallel=True))
                for index in range(ROUNDS)
            ]
            cpus = ray.cluster_resources()["CPU"]
        single, warm = (statistics.mean(column) for column in zip(*rounds, strict=True))
        print(f"precompute, 1 process  {single:8.1f} clips/s   {CLIPS} clips, shards written; means of {ROUNDS} rounds")
        print(f"precompute, Ray, warm  {warm:8.1f} clips/s   {warm / single:.2f} x one process, on {cpus:.0f} CPUs")
        print(f"precompute, Ray, cold  {cold:8.1f} clips/s   {cold / single:.2f} x one process; workers import torch")
