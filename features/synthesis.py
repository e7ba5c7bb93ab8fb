"""Sounds for the generated corpus: what a device records of a segment at a location of a city.

A scene is a row of a table: a noise bed, a hum, a room and its sound events. A location draws its own
variant of the row, a segment its own chance, and each device records the segment through its own response.
Curves over frequency live on one logarithmic grid and noise is drawn as the phases of a spectrum, so a clip
costs a few FFTs. Every random number comes from a generator named after its purpose: the same settings give
the same bytes, and a larger corpus contains the smaller one.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]  # float32 in fact: numpy's stubs know irfft in double precision only
Curve = NDArray[np.floating]  # at CURVE_HZ, in dB
Spectrum = NDArray[np.complex64]  # (samples // 2 + 1,), unscaled as np.fft.rfft has it

SAMPLE_RATE = 44_100
CITIES = ("barcelona", "helsinki", "lisbon", "london", "lyon", "milan", "paris", "prague",
          "stockholm", "vienna")  # fmt: skip
CURVE_HZ = np.geomspace(20, SAMPLE_RATE / 2, 1024)  # 100 points an octave: their steps are inaudible
OCTAVES = np.log2(CURVE_HZ / 1000)
LOW_CUT = -10 * np.log10(1 + (60 / CURVE_HZ) ** 4)  # dB; else most of a bed's power would be below hearing
PHASES = np.exp(2j * np.pi * np.arange(2**16) / 2**16).astype(np.complex64)


class Sound(NamedTuple):
    """One kind of event: a grain of noise or tone, repeated a few times."""

    hz: tuple[float, float]  # range of the centre (noise) or of the fundamental (tone)
    seconds: tuple[float, float]  # range of the length of one grain
    attack: float  # share of the grain in which it rises
    decay: float  # how steeply it falls: (1 - x) ** decay
    repeats: tuple[int, int] = (1, 1)
    spacing: float = 0.0  # seconds from one repeat to the next
    harmonics: int = 0  # of a tone; 0 is noise, one octave wide
    glide: float = 0.0  # octaves that the tone rises or falls at most within a grain
    formants: bool = False  # whether the harmonics have a vowel's formants


SOUNDS = {
    "steps": Sound((500, 3000), (0.03, 0.07), 0.05, 5, (4, 12), 0.53),
    "trolley": Sound((900, 3500), (1.0, 2.5), 0.3, 1),
    "car": Sound((250, 900), (3.0, 6.0), 0.5, 2),
    "train": Sound((120, 500), (4.0, 6.0), 0.6, 2),
    "joints": Sound((70, 300), (0.09, 0.16), 0.05, 3, (6, 14), 0.62),
    "rattle": Sound((1200, 4500), (0.02, 0.05), 0.1, 3, (4, 16), 0.09),
    "hiss": Sound((3000, 6000), (0.4, 1.2), 0.02, 2),
    "voices": Sound((95, 240), (0.12, 0.24), 0.4, 1.5, (3, 9), 0.21, harmonics=40, glide=0.3, formants=True),
    "bird": Sound((2200, 6500), (0.07, 0.2), 0.3, 1, (2, 8), 0.24, harmonics=2, glide=0.6),
    "horn": Sound((300, 480), (0.3, 1.0), 0.05, 0.3, harmonics=14),
    "chime": Sound((500, 900), (0.5, 0.9), 0.02, 3, (2, 3), 0.45, harmonics=4),
    "door": Sound((700, 1800), (0.1, 0.16), 0.05, 1, (3, 8), 0.25, harmonics=3),
    "bell": Sound((1100, 1700), (0.3, 0.6), 0.01, 4, (1, 3), 0.3, harmonics=3),
    "squeal": Sound((1800, 4500), (0.6, 2.0), 0.4, 1, harmonics=3, glide=0.07),
}


class Scene(NamedTuple):
    """The mean of a scene; `_place` draws a location's variant of it."""

    level: float  # dBFS RMS
    tilt: float  # dB per octave of the bed
    bump: tuple[float, float]  # Hz and dB of the bed's broad resonance
    swell: float  # dB (sd) by which bed and hum come and go
    hum: tuple[float, float, float]  # fundamental in Hz, octaves (sd) it wanders, dB re bed
    room: tuple[float, float]  # reverberation time in seconds, reverberant level in dB re direct
    events: dict[str, tuple[float, float]]  # sound: events a second, dB re bed


SCENES = {
    "airport": Scene(-47, -6.8, (300, 4), 0.8, (100, 0, -16), (1.7, -3), {
        "voices": (1.8, -10), "steps": (0.25, -9), "chime": (0.15, -4), "trolley": (0.25, -7)}),
    "bus": Scene(-44, -8.5, (110, 5), 3.0, (32, 0.30, 1), (0.15, -8), {
        "voices": (0.8, -13), "rattle": (0.6, -11), "hiss": (0.12, -12), "door": (0.06, -14)}),
    "metro": Scene(-43, -7.0, (600, 6), 4.5, (190, 0.45, -8), (0.30, -5), {
        "voices": (0.7, -13), "joints": (0.25, -1), "squeal": (0.12, -13), "door": (0.12, -11)}),
    "metro_station": Scene(-46, -7.0, (220, 4), 2.0, (100, 0, -13), (2.4, 0), {
        "voices": (0.9, -10), "steps": (0.4, -8), "chime": (0.05, -6), "train": (0.2, 3), "squeal": (0.12, -12)}),
    "park": Scene(-55.5, -6.2, (400, 2), 1.8, (60, 0.1, -20), (0.3, -18), {
        "voices": (0.25, -10), "steps": (0.15, -7), "bird": (0.9, -8), "car": (0.03, -5)}),
    "public_square": Scene(-49, -6.0, (450, 3), 1.3, (60, 0.1, -17), (0.8, -9), {
        "voices": (0.9, -9), "steps": (0.3, -8), "bird": (0.3, -10), "car": (0.12, -2), "bell": (0.06, -9)}),
    "shopping_mall": Scene(-46, -5.6, (500, 4), 0.6, (100, 0, -20), (1.1, -5), {
        "voices": (3.2, -7), "steps": (0.5, -8), "chime": (0.03, -8), "door": (0.06, -12)}),
    "street_pedestrian": Scene(-47, -6.0, (550, 3), 1.0, (60, 0.1, -19), (0.45, -11), {
        "voices": (2.2, -6), "steps": (1.0, -5), "bird": (0.06, -12), "car": (0.04, -4)}),
    "street_traffic": Scene(-44, -6.4, (800, 5), 2.5, (55, 0.25, -8), (0.4, -13), {
        "voices": (0.2, -14), "steps": (0.2, -11), "bird": (0.08, -15), "car": (0.4, 3), "horn": (0.08, -6)}),
    "tram": Scene(-44, -7.6, (280, 6), 3.2, (105, 0.35, -5), (0.20, -7), {
        "voices": (0.8, -13), "joints": (0.10, -1), "squeal": (0.25, -12), "bell": (0.08, -9), "rattle": (0.2, -12)}),
}  # fmt: skip

# Pass band from and to (Hz), dB (sd) by which the response differs from octave to octave, own noise (dBFS RMS).
DEVICES = {
    "a": (20, 21_000, 0.4, -92), "b": (90, 14_000, 3.0, -80), "c": (60, 16_000, 3.0, -83),
    "s1": (70, 12_000, 3.0, -82), "s2": (110, 17_000, 3.0, -79), "s3": (50, 13_000, 3.5, -84),
    "s4": (140, 11_000, 3.5, -80), "s5": (80, 9_000, 4.0, -82), "s6": (120, 15_000, 4.5, -78),
}  # fmt: skip
TRAIN_DEVICES = ("a", "b", "c", "s1", "s2", "s3")


def _rng(*purpose: object) -> np.random.Generator:
    digest = hashlib.blake2b("/".join(map(str, purpose)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest))


def _db(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _unit(signal: Floats) -> Floats:
    return signal / np.sqrt(np.mean(signal * signal))  # np.dot would round as its number of threads has it


def _ripple(rng: np.random.Generator, sd: float) -> Curve:
    """A smooth random curve with a knot an octave, of standard deviation `sd` in dB."""
    return np.interp(OCTAVES, np.arange(-6, 6), rng.normal(0, sd, 12))


@functools.lru_cache(maxsize=16)
def _nearest(samples: int) -> NDArray[np.intp]:
    """For each bin of an rfft of `samples`, the nearest point of CURVE_HZ."""
    return np.searchsorted(np.sqrt(CURVE_HZ[1:] * CURVE_HZ[:-1]), np.fft.rfftfreq(samples, 1 / SAMPLE_RATE))


def _gains(curve: Curve, samples: int) -> Floats:
    return (10 ** (curve / 20)).astype(np.float32)[_nearest(samples)]


def _white(rng: np.random.Generator, samples: int) -> Spectrum:
    """White noise of RMS 1. Random phases alone will do, at a fifth of the cost: a window mixes many bins."""
    return PHASES[rng.integers(0, 2**16, samples // 2 + 1, dtype=np.uint16)] * np.float32(np.sqrt(samples))


def _noise(rng: np.random.Generator, curve: Curve, samples: int) -> Floats:
    """Noise of the spectrum `curve`: (samples,), RMS 1."""
    return _unit(np.fft.irfft(_white(rng, samples) * _gains(curve, samples), samples))


def _lines(knots: Floats, samples: int) -> Floats:
    """Straight lines through equally spaced `knots`: (samples,). Ten times as fast as np.interp."""
    block = -(-samples // (len(knots) - 1))
    ramp = np.arange(block, dtype=np.float32) / np.float32(block)  # (block,)
    start = knots.astype(np.float32)[:, None]  # (knots, 1)
    return (start[:-1] + np.diff(start, axis=0) * ramp).reshape(-1)[:samples]


def _tone(rng: np.random.Generator, hz: Floats, weights: Floats) -> Floats:
    """A tone whose fundamental follows `hz`, its harmonics of `weights` and random phases: RMS 1."""
    weights = np.where(np.arange(1, len(weights) + 1) * hz.max() < 0.45 * SAMPLE_RATE, weights, 0)
    harmonics = np.append(0, weights * np.exp(2j * np.pi * rng.random(len(weights))))
    cycle = _unit(np.fft.irfft(harmonics, 4096).astype(np.float32))
    steps = (hz * np.float32(2**32 / SAMPLE_RATE)).astype(np.uint32)
    return cycle[np.cumsum(steps, dtype=np.uint32) >> 20]  # 2**32 is a turn: the phase wraps by itself


def _grain(rng: np.random.Generator, sound: Sound) -> Floats:
    samples = round(rng.uniform(*sound.seconds) * SAMPLE_RATE)
    hz = sound.hz[0] * (sound.hz[1] / sound.hz[0]) ** rng.random()
    if sound.harmonics:
        order = np.arange(1, sound.harmonics + 1)
        weights = 1 / order
        if sound.formants:
            vowel = rng.uniform((300, 900, 2300), (800, 2200, 2900))[:, None]  # (formants, 1)
            weights = weights * (1 / (1 + ((order * hz - vowel) / 120) ** 2)).sum(0)
        glide = hz * 2 ** np.array([0, rng.uniform(-1, 1) * sound.glide])
        grain = _tone(rng, _lines(glide, samples), weights)
    else:
        octave = -12 * (OCTAVES - np.log2(hz / 1000)) ** 2
        block = 1 << min(15, samples.bit_length())  # a car's noise may repeat after 0.7 s
        grain = np.resize(_noise(rng, octave, block), samples)
    x = np.linspace(0, 1, 201)
    return grain * _lines(np.minimum(1, x / sound.attack) * (1 - x) ** sound.decay, samples)


def _add_events(signal: Floats, rng: np.random.Generator, sound: Sound, rate: float, level: float) -> None:
    """Add a Poisson number of events to `signal`, at `rate` a second; some are under way when it starts."""
    seconds = len(signal) / SAMPLE_RATE
    for _ in range(rng.poisson(rate * seconds)):
        grain = _grain(rng, sound) * _db(level + rng.normal(0, 3))  # nearer or farther
        repeats = rng.integers(*sound.repeats, endpoint=True)
        times = np.arange(repeats) * (sound.spacing * rng.uniform(0.8, 1.25))
        times += rng.uniform(-times[-1], seconds) + rng.normal(0, 0.01, len(times))
        for start in (times * SAMPLE_RATE).astype(int) - len(grain) // 2:
            begin, end = max(0, start), min(len(signal), start + len(grain))
            if begin < end:
                signal[begin:end] += grain[begin - start : end - start]


@functools.lru_cache(maxsize=2)
def _place(scene: str, city: str, location: int, samples: int, seed: int) -> tuple[Scene, Curve, Spectrum]:
    """The location's variant of `scene`, the spectrum of its bed and the response of its room."""
    level, tilt, (bump_hz, bump_db), swell, (hum_hz, wander, hum_db), (decay, wet), events = SCENES[scene]
    rng = _rng(seed, "place", scene, city, location)
    place = Scene(
        level=level + rng.normal(0, 2),
        tilt=tilt + rng.normal(0, 0.4),
        bump=(bump_hz * 2 ** rng.normal(0, 0.25), bump_db + rng.normal(0, 1)),
        swell=swell * 2 ** rng.normal(0, 0.3),
        hum=(hum_hz * 2 ** rng.normal(0, 0.1), wander, hum_db + rng.normal(0, 2)),
        room=(decay * 2 ** rng.normal(0, 0.3), wet + rng.normal(0, 1.5)),
        events={k: (r * 2 ** rng.normal(0, 0.4), db + rng.normal(0, 2)) for k, (r, db) in events.items()},
    )
    bump = place.bump[1] * np.exp(-2 * (OCTAVES - np.log2(place.bump[0] / 1000)) ** 2)
    colour = _ripple(_rng(seed, "city", city), 0.8) + _ripple(rng, 1.2)
    bed = place.tilt * OCTAVES + bump + colour + LOW_CUT
    tail = np.arange(min(samples, int(place.room[0] * SAMPLE_RATE))) / SAMPLE_RATE
    echo = rng.standard_normal(len(tail)) * np.exp(-6.9 * tail / place.room[0])
    echo *= _db(place.room[1]) / np.sqrt(np.sum(echo**2))
    echo[0] += 1
    return place, bed, np.fft.rfft(echo, samples).astype(np.complex64)


def _segment(scene: str, city: str, location: int, segment: int, samples: int, seed: int) -> Spectrum:
    """The sound of a segment (sample,) before any device records it."""
    place, bed, room = _place(scene, city, location, samples, seed)
    rng = _rng(seed, "segment", scene, city, location, segment)
    knots = 2 + samples // SAMPLE_RATE  # about one a second
    hz, wander, hum_level = place.hum
    hum = _tone(rng, _lines(hz * 2 ** rng.normal(0, wander, knots), samples), 0.8 ** np.arange(20))
    signal = _noise(rng, bed, samples) + hum * _db(hum_level)
    signal *= _lines(10 ** (rng.normal(0, place.swell, knots) / 20), samples)
    for name, (rate, level) in place.events.items():
        events = _rng(seed, name, scene, city, location, segment)
        _add_events(signal, events, SOUNDS[name], rate, level)
    # The convolution is circular: the clip's end rings on at its start, so that its level is even.
    spectrum = np.fft.rfft(signal) * room
    rms = np.sqrt(2 * np.sum(spectrum.view(np.float32) ** 2)) / samples
    return spectrum * (_db(np.clip(place.level + rng.normal(0, 1.5), -57, -40)) / rms)


def _response(device: str) -> Curve:
    """The device's response, the same for every seed; it keeps the level of a typical scene."""
    low, high, ripple, _ = DEVICES[device]
    curve = _ripple(_rng("recorder", device), ripple)
    curve -= 10 * np.log10((1 + (low / CURVE_HZ) ** 4) * (1 + (CURVE_HZ / high) ** 8))
    typical = 10 ** ((LOW_CUT - 3.5 * OCTAVES) / 10)  # power per octave
    return curve - 10 * np.log10(np.average(10 ** (curve / 10), weights=typical))


def render(
    scene: str, city: str, location: int, segment: int, devices: Sequence[str], seconds: float, seed: int
) -> Iterator[Floats]:
    """Parallel recordings of one segment, one for each of `devices`.

    Each is float32, (round(seconds * 44100),), full scale 1, and does not depend on which other devices are generated.
    Raises KeyError for a scene that is not in SCENES and for a device that is not in DEVICES.
    """
    samples = round(seconds * SAMPLE_RATE)
    signal = _segment(scene, city, location, segment, samples, seed)
    for device in devices:
        rng = _rng(seed, "noise", scene, city, location, segment, device)
        *_, noise = DEVICES[device]
        recording = signal * _gains(_response(device), samples) + _white(rng, samples) * _db(noise)
        yield np.fft.irfft(recording, samples)
