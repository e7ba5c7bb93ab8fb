"""A decoder that dies or hangs costs its file alone: a process really dies here, and really hangs."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from features import apart
from features.apart import Decoder, decode_apart, verdict
from features.corpus import Clip
from features.decoding import BadAudio, decode
from features.precompute import precompute
from features.settings import FrontEnd
from tests.features.faulty import SILENCE
from tests.features.faulty import faulty as decode_faulty
from tests.features.test_audio import encode, noise


@contextmanager
def faulty(seconds: int = 10) -> Iterator[Decoder]:
    own = Decoder(decode_faulty, seconds)
    try:
        yield own
    finally:
        own.end()


@pytest.mark.parametrize("seconds", [None, 0.1])
@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("OGG", "VORBIS"), ("FLAC", "PCM_24")])
def test_what_it_decodes_is_what_is_decoded_here(container, subtype, seconds):
    data = encode(np.stack([noise(50_000), noise(50_000, seed=1)], 1), container, subtype)
    here, there = decode(data, seconds), decode_apart(data, seconds)
    assert there.rate == here.rate and there.samples.dtype == np.float32
    assert np.array_equal(there.samples, here.samples)


def test_what_is_refused_there_is_refused_here_and_no_samples_are_no_fault():
    with pytest.raises(BadAudio, match=r"^not readable as audio \(Format not recognised\)$"):
        decode_apart(b"no audio")
    assert decode_apart(encode(np.zeros((0, 2)))).samples.shape == (0, 2)


@pytest.mark.parametrize("signs", [b"SEGV", b"HANG"])
def test_a_file_that_ends_its_decoder_is_refused_and_the_next_is_decoded(signs):
    reason = {b"SEGV": r"its decoder dies of it \(SIGSEGV\)", b"HANG": "its decoder does not come to an end"}[signs]
    with faulty(seconds=1) as decoder:
        assert decoder.decode(b"GOOD").rate == SILENCE.rate
        with pytest.raises(BadAudio, match=f"^{reason}$"):
            decoder.decode(signs)
        assert np.array_equal(decoder.decode(b"GOOD").samples, SILENCE.samples)


def test_a_file_is_judged_by_a_fresh_process(tmp_path):
    """What another file has done to the first one's memory is none of its faults."""
    with faulty() as decoder:
        assert decoder.decode(b"ONCE" + bytes(tmp_path / "sign")).rate == SILENCE.rate
        assert (tmp_path / "sign").exists()


@pytest.mark.parametrize(
    ("signs", "said"), [(b"KILL", "SIGKILL"), (b"EXIT", r"fails \(code 3\)"), (b"DISK", "No space left")]
)
def test_what_is_no_fault_of_the_file_quarantines_nothing(signs, said):
    with faulty() as decoder, pytest.raises(OSError, match=said):
        decoder.decode(signs)


def test_every_signal_has_a_verdict():
    refused = {number for number in signal.Signals if isinstance(verdict(-number), BadAudio)}
    assert {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGXCPU} <= refused
    assert not {signal.SIGKILL, signal.SIGTERM, signal.SIGINT} & refused


@pytest.mark.parametrize(("size", "seconds"), [(4, 7), (19_999, 7), (20_000, 8), (100_000, 12), (13_000_000, 607)])
def test_a_large_file_may_take_longer(size, seconds):
    assert Decoder(seconds=7).limit(size) == seconds


def test_nothing_of_the_working_directory_is_executed(tmp_path, monkeypatch):
    """As in a downloaded corpus with a json.py."""
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    decoder = Decoder()
    try:
        assert len(decoder.decode(encode(noise(1000))).samples) == 1000
    finally:
        decoder.end()


def test_an_answer_that_nobody_reads_is_not_the_next_files(monkeypatch):
    with faulty() as decoder:
        monkeypatch.setattr("features.apart.np.empty", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decoder.decode(encode(noise(500_000)))
        monkeypatch.undo()
        assert np.array_equal(decoder.decode(b"GOOD").samples, SILENCE.samples)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_process_that_dies_while_it_answers_has_died(monkeypatch):
    """The half of an answer is an OSError without a number to `multiprocessing`."""
    with faulty() as decoder:
        assert decoder.decode(b"GOOD").rate == SILENCE.rate
        ends: list[int] = []

        def cut(*words: Any, empty: Any = np.empty) -> Any:
            if not ends:
                ends.append(1)
                raise OSError("got end of file during message")
            return empty(*words)

        monkeypatch.setattr("features.apart.np.empty", cut)
        assert decoder.decode(b"GOOD").rate == SILENCE.rate
        assert ends == [1]


def test_ctrl_c_does_not_wait_for_a_file_without_end():
    decoder = Decoder(decode_faulty)
    _, pipe = decoder.running()
    pipe.send_bytes(b'{"seconds": null, "limit": 1000}')
    pipe.send_bytes(b"HANG")
    process = decoder.process
    decoder.end()
    assert process is not None and process.returncode == -signal.SIGKILL


def test_a_file_of_finders_in_the_working_directory_does_no_harm(tmp_path, monkeypatch):
    """libsndfile takes a file "._" there for the resource fork of whatever it reads in memory, and refuses MP3."""
    (tmp_path / "._").touch()
    monkeypatch.chdir(tmp_path)
    data = encode(noise(50_000), "MP3", "MPEG_LAYER_III", 44_100)
    with pytest.raises(BadAudio):
        decode(data)
    decoder = Decoder()
    try:
        assert len(decoder.decode(data).samples) > 45_000
    finally:
        decoder.end()


def test_threads_share_one_process():
    with faulty() as decoder:
        done: list[int] = []
        threads = [threading.Thread(target=lambda: done.append(decoder.decode(b"GOOD").rate)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [SILENCE.rate] * 8


def test_it_ends_with_the_process_that_started_it():
    decoder = Decoder(decode_faulty)
    assert decoder.decode(b"GOOD").rate == SILENCE.rate
    process = decoder.process
    assert process is not None and process.poll() is None
    decoder.end()
    assert process.returncode is not None


def test_such_a_file_is_quarantined_and_the_others_of_its_shard_are_there(tmp_path, monkeypatch):
    names = ["a.wav", "b.wav", "c.wav"]
    for seed, name in enumerate(names):
        (tmp_path / name).write_bytes(encode(noise(4000, seed=seed), rate=8000))
    (tmp_path / "b.wav").write_bytes(b"SEGV")
    clips = [Clip(name, "park", "", "a", name, "", "train") for name in names]
    with faulty() as decoder:
        monkeypatch.setattr(apart, "decoder", lambda: decoder)
        front_end = FrontEnd(sample_rate=8000, clip_seconds=0.5, n_fft=256, hop_length=128, n_mels=16)
        manifest = precompute(tmp_path, clips, front_end, tmp_path / "shards", parallel=False)
    assert manifest.clips == 2
    assert manifest.quarantine == {"b.wav": "its decoder dies of it (SIGSEGV)"}
