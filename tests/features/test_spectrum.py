"""Devices' responses: estimated from parallel recordings whose truth is known, and what they do to a sound."""

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from features.copies import Copy
from features.corpus import TEST, TRAIN, Clip, CorpusError
from features.generated import CorpusSize, make_corpus
from features.precompute import precompute
from features.readers import read_tau
from features.settings import Copies, FrontEnd
from features.spectrum import Responses, convolved, corrected, estimate, filtered, minimum_phase, parallel_recordings
from features.synthesis import CURVE_HZ, _response
from features.taxonomy import TAU_GROUPS, Taxonomy
from features.waveform import blend
from tests.features.reading import load

RATE = 8000
SETTINGS = FrontEnd(sample_rate=RATE, clip_seconds=1.0, n_fft=256, hop_length=128, n_mels=16)
BINS = 129


def low_pass(taps: int, cutoff: float) -> np.ndarray:
    """A windowed sinc, `cutoff` in shares of Nyquist; scipy.signal.firwin gives the same."""
    impulse = np.sinc(cutoff * (np.arange(taps) - (taps - 1) / 2)) * np.hamming(taps)
    return impulse / impulse.sum()


LOW_PASS = low_pass(31, 0.4)


def noise(seed: int, count: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, count).astype(np.float32)


def clip(name: str, device: str, segment: str, split: str = TRAIN) -> Clip:
    return Clip(name, "bus", split, segment, "", device, segment)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twenty segments by device a, by b through a known low-pass at half level, and by c as a has them."""
    root = tmp_path_factory.mktemp("parallel")
    clips = []
    for number in range(20):
        heard = noise(number, 2 * RATE)
        through = 0.5 * np.convolve(heard, LOW_PASS)[: len(heard)]
        for device, samples in (("a", heard), ("b", through), ("c", heard)):
            name = f"{number:02}-{device}.wav"
            sf.write(root / name, samples[RATE // 2 : RATE // 2 + RATE], RATE, subtype="FLOAT")
            clips.append(clip(name, device, f"{number:02}"))
    return root, clips


@pytest.fixture(scope="module")
def responses(corpus) -> Responses:
    root, clips = corpus
    return estimate(root, clips, SETTINGS, ("a",))


def test_a_known_filter_is_found(responses):
    truth = np.abs(np.fft.rfft(LOW_PASS, 2 * (BINS - 1)))
    passed = truth > 0.1  # below, a window's leakage is heard
    np.testing.assert_allclose(responses.of["b"][passed], 0.5 * truth[passed], rtol=0.05)
    assert responses.of["b"][~passed].max() < 0.1
    np.testing.assert_allclose(responses.of["c"], 1, rtol=1e-5)
    np.testing.assert_allclose(responses.of["a"], 1, rtol=1e-5)
    assert responses.others == ["b", "c"]


def test_of_several_references_it_is_the_mean_that_counts(corpus):
    root, clips = corpus
    both = estimate(root, clips, SETTINGS, ("a", "b"))
    low = slice(0, 20)  # where b hears half of what a hears, their mean is three quarters
    np.testing.assert_allclose(both.of["a"][low].mean(), 4 / 3, rtol=0.02)
    np.testing.assert_allclose(both.of["b"][low].mean(), 2 / 3, rtol=0.02)


def test_the_generated_corpus_has_the_devices_it_says(tmp_path):
    make_corpus(tmp_path / "made", CorpusSize(cities=2, train_locations=1, train_segments=1, seconds=3), seed=0)
    clips = read_tau(tmp_path / "made", Taxonomy.from_groups(TAU_GROUPS))
    found = estimate(tmp_path / "made", clips, FrontEnd(clip_seconds=3.0), ("a",))
    assert found.others == ["b", "c", "s1", "s2", "s3"]  # s4 to s6 are in the test split alone
    hz = np.linspace(0, 22_050, 1025)
    heard = (hz > 300) & (hz < 4000)  # where a recording is louder than its device's own noise
    for device in found.others:
        truth = np.interp(hz[heard], CURVE_HZ, _response(device) - _response("a"))
        np.testing.assert_allclose(20 * np.log10(found.of[device][heard]), truth, atol=1.5)


def test_only_training_segments_count_and_none_is_said_so(corpus):
    _, clips = corpus
    alone = [row for row in clips if row.device == "a"]
    elsewhere = [clip(row.path, row.device, row.segment, TEST) for row in clips]
    for rows in (alone, elsewhere, []):
        with pytest.raises(CorpusError, match="recorded by a and another device at once: .* need parallel recordings"):
            parallel_recordings(rows, ("a",))
    pairs = parallel_recordings(clips, ("a",))
    assert {device: len(rows) for device, rows in pairs.items()} == {"a": 20, "b": 20, "c": 20}


def test_a_bad_recording_is_passed_over(corpus, tmp_path):
    root, clips = corpus
    for row in clips:
        (tmp_path / row.path).write_bytes((root / row.path).read_bytes())
    (tmp_path / "00-a.wav").write_bytes(b"")
    found = estimate(tmp_path, clips, SETTINGS, ("a",))
    np.testing.assert_allclose(found.of["c"], 1, rtol=1e-5)


def test_correcting_undoes_filtering(responses):
    sound = noise(99)
    there_and_back = corrected(filtered(sound, responses.of["b"]), responses.of["b"])
    kept = low_pass(101, 0.2)  # the stop band is beyond recovery
    before, after = (np.convolve(samples, kept) for samples in (sound, there_and_back))
    assert np.std(after - before) < 0.01 * np.std(before)


def test_filtering_scales_a_tone_by_the_response_at_its_frequency():
    response = np.linspace(1, 3, BINS, dtype=np.float32)
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)  # a quarter of Nyquist
    np.testing.assert_allclose(filtered(tone, response), 1.5 * tone, atol=1e-4)


@given(st.integers(0, 1000))
def test_minimum_phase_is_scipy_s(seed):
    curve = np.exp(np.interp(np.arange(BINS), [0, 40, 90, 128], np.random.default_rng(seed).normal(0, 1, 4)))
    impulse = minimum_phase(curve.astype(np.float32))
    np.testing.assert_allclose(np.abs(np.fft.rfft(impulse)), curve, rtol=1e-3)
    # The zeros of a minimum-phase system lie within the unit circle: its phase ends where it began.
    phase = np.unwrap(np.angle(np.fft.rfft(impulse)))
    assert abs(phase[-1] - phase[0]) < 1e-3
    energy = np.cumsum(impulse**2)
    linear = np.fft.fftshift(np.fft.irfft(curve))
    assert (energy[:128] >= np.cumsum(linear**2)[:128] - 1e-6).all()


def test_convolving_has_the_response_and_no_delay(responses):
    click = np.zeros(RATE, np.float32)
    click[1000] = 1
    heard = convolved(click, responses.of["b"])
    assert not np.abs(heard[:1000]).max() > 1e-6
    np.testing.assert_allclose(np.abs(np.fft.rfft(heard[1000:1256])), responses.of["b"], atol=2e-3)


def test_a_blend_is_between_its_devices(responses):
    for seed in range(20):
        mixed = blend(responses, (0.0, 1.0), np.random.default_rng(seed))
        ends = [np.ones(BINS), responses.of["b"].astype(float) ** 2]  # c is flat: from nothing to b twice
        assert (mixed > np.minimum(*ends) * 0.99 - 1e-5).all() and (mixed < np.maximum(*ends) * 1.01 + 1e-5).all()


def copies(corpus, responses, folder, kind) -> tuple[list[Clip], np.ndarray]:
    root, clips = corpus
    copy = Copy(kind, Copies(kinds=(kind,)), 0, responses)
    part = copy.clips(clips)
    manifest = precompute(root, part, SETTINGS, folder, parallel=False, copy=copy)
    loaded = load([folder / name for name in manifest.shards], part, (16, SETTINGS.frames))
    return part, loaded.static


def test_copies_by_spectrum_are_of_the_reference_and_differ_from_run_to_run_in_nothing(corpus, responses, tmp_path):
    part, static = copies(corpus, responses, tmp_path / "one", "spectrum")
    assert {row.device for row in part} == {"a"} and len(static) == 20
    np.testing.assert_array_equal(static, copies(corpus, responses, tmp_path / "two", "spectrum")[1])
    part, static = copies(corpus, responses, tmp_path / "three", "dir")
    assert len(part) == len(static) == 60


def test_corrected_features_of_a_device_are_those_of_the_reference(corpus, responses, tmp_path):
    root, clips = corpus
    settings = FrontEnd(sample_rate=RATE, clip_seconds=1.0, n_fft=256, hop_length=128, n_mels=16, scaling="level")

    def features(**options) -> dict[str, np.ndarray]:
        manifest = precompute(root, clips, settings, tmp_path / "shards", parallel=False, **options)
        loaded = load([tmp_path / "shards" / name for name in manifest.shards], clips, (16, settings.frames))
        return dict(zip((row.path for row in loaded.clips), loaded.static.astype(np.float32), strict=True))

    before, after = features(), features(correction=responses)
    low = slice(0, 8)  # mel bins below the low-pass's edge
    for number in range(20):
        a, b = f"{number:02}-a.wav", f"{number:02}-b.wav"
        np.testing.assert_array_equal(after[a], before[a])
        assert np.abs(after[b][low] - after[a][low]).mean() < 0.3 * np.abs(before[b][low] - before[a][low]).mean()


def test_a_clip_of_another_device_is_corrected_anew(corpus, responses, tmp_path):
    root, clips = corpus
    own = [row for row in clips if row.device == "b"][:3]
    other = [clip(row.path, "c", row.segment) for row in own]

    def features(rows: list[Clip]) -> tuple[str, np.ndarray]:
        manifest = precompute(root, rows, SETTINGS, tmp_path, parallel=False, correction=responses)
        loaded = load([tmp_path / name for name in manifest.shards], rows, (16, SETTINGS.frames))
        return manifest.data_hash, loaded.static

    (first, corrected_as_b), (second, corrected_as_c) = features(own), features(other)
    assert first != second and not np.array_equal(corrected_as_b, corrected_as_c)


def test_of_several_references_each_is_corrected_towards_their_mean(corpus, tmp_path):
    root, clips = corpus
    both = estimate(root, clips, SETTINGS, ("a", "b"))
    level = FrontEnd(sample_rate=RATE, clip_seconds=1.0, n_fft=256, hop_length=128, n_mels=16, scaling="level")
    manifest = precompute(root, clips, level, tmp_path, parallel=False, correction=both)
    loaded = load([tmp_path / name for name in manifest.shards], clips, (16, level.frames))
    by_path = {row.path: values.astype(np.float32) for row, values in zip(loaded.clips, loaded.static, strict=True)}
    inside = np.s_[:8, 2:-2]  # mel bins below the low-pass's edge; frames without the clip's edges
    assert np.abs(by_path["00-a.wav"][inside] - by_path["00-b.wav"][inside]).mean() < 0.01  # 0.075 before


def test_pairs_that_cannot_be_used_are_said_so(corpus, tmp_path):
    root, clips = corpus
    for row in clips:
        (tmp_path / row.path).write_bytes((root / row.path).read_bytes() if row.device == "a" else b"")
    with pytest.raises(CorpusError, match="no parallel recording of a and another device can be used"):
        estimate(tmp_path, clips, SETTINGS, ("a",))
    nameless = [clip(row.path, row.device if row.device == "a" else "", row.segment) for row in clips]
    with pytest.raises(CorpusError, match="need parallel recordings"):
        parallel_recordings(nameless, ("a",))
