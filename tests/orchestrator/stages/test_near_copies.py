"""Recordings that two splits share though their bytes differ: where they are said, and how."""

import io

import soundfile
from rich.console import Console

from features.fingerprint import NearCopy
from orchestrator.monitor.view import View
from orchestrator.stages.context import Context
from orchestrator.stages.corpus import tables_of
from orchestrator.stages.features import run
from orchestrator.stages.near_copies import read_near_copies, warn_of
from tests.orchestrator.stages.test_check import checked


def test_a_near_copy_in_two_splits_is_said_by_check_and_run_and_listed(small, store, corpus):
    config = small("features.clip_seconds=4", "features.n_mels=48")
    clips = tables_of(config)[""]
    parks = [clip for clip in clips if clip.scene == "park"]
    train, test = (next(clip.path for clip in parks if clip.split == split) for split in ("train", "test"))
    samples, rate = soundfile.read(corpus / train)
    before = (corpus / test).read_bytes()
    soundfile.write(corpus / test, samples / 2, rate, subtype="PCM_16")
    try:
        _, lines = checked(config, decode=True)
        said = f"near copies: 1 pair of recordings in two splits sound the same, as {train} (train) and {test} (test)"
        assert any(line.startswith(said) for line in lines), "\n".join(lines)
        text = io.StringIO()
        context = Context(config, store, View(Console(file=text, width=400)), "run")
        run(context)
        _, folder = run(context)  # a run that uses the features again says it again
        assert text.getvalue().count(said) == 2
        (pair,) = read_near_copies(folder)
        assert (pair.first, pair.second, pair.different < 0.1) == (train, test, True)
    finally:
        (corpus / test).write_bytes(before)


def test_near_copies_are_counted_and_the_first_is_named():
    pairs, said = [NearCopy(name, "train", "z.wav", "test", 0.0) for name in ("a.wav", "b.wav")], list[str]()
    for found in (pairs, pairs[1:], []):
        warn_of(found, said.append)
    assert said == [
        f"near copies: {count} of recordings in two splits sound the same, as {name} (train) and z.wav (test); "
        f"unless chance, the numbers flatter"
        for count, name in (("2 pairs", "a.wav"), ("1 pair", "b.wav"))
    ]
