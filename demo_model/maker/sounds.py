"""Captioned clips of own synthesis, laid out so that few numbers hold each latent frame.

Every tone makes a whole number of cycles in a frame of 4096 samples, and its phase counts from
the clip's start: a held note is the same 4096 samples in every frame. C major in just intonation
lies on that grid (C4 = 24 cycles, 258.4 Hz). Beats last a whole number of frames, so notes and
drums begin at frames, hi-hats also halfway. Noise drums are one fixed sample each.

Audio is float32 [2, samples] at 44.1 kHz.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE, FRAME = 44100, 4096
TICK = FRAME // 2
LEVEL = 0.6  # nothing clips
LONGEST = 12.0  # seconds of a clip
Audio = NDArray[np.float32]

BEATS = {80: 8, 92: 7, 108: 6, 128: 5, 160: 4}
"""Frames of a beat by the BPM that captions name; at most 1 % off."""

SCALE = {"C": 24, "D": 27, "E": 30, "F": 32, "G": 36, "A": 40, "B": 45}
CHORDS = {"C major": (24, 30, 36), "F major": (20, 32, 24), "G major": (18, 27, 45)}
CHORDS |= {"A minor": (20, 24, 30)}
_PENTATONIC = (24, 27, 30, 36, 40)
_BELL = ((1.0, 1.0), (2.76, 0.5), (5.4, 0.3), (8.93, 0.15))  # partial, amplitude


@dataclass(frozen=True)
class Instrument:
    """A tonal sound.

    Attributes:
        words: how captions name it.
        phrase: what it plays, for captions.
        notes: cycles per frame of what it may play.
        partials: (multiple of the note, amplitude) of its tones.
        attack: seconds until a note is full.
        decay: seconds until a struck note has fallen to 1/e; 0 = it is held.
        gain: level.
        pan: -1 left to 1 right.
    """

    words: str
    phrase: str
    notes: tuple[int, ...]
    partials: tuple[tuple[float, float], ...]
    attack: float
    decay: float
    gain: float
    pan: float


def _harmonics(*amplitudes: float) -> tuple[tuple[float, float], ...]:
    return tuple((float(n), a) for n, a in enumerate(amplitudes, 1) if a)


def _falling(count: int, power: float) -> tuple[tuple[float, float], ...]:
    return _harmonics(*(n**-power for n in range(1, count + 1)))


_HIGH = tuple(2 * k for k in _PENTATONIC)
INSTRUMENTS = {
    "flute": Instrument(
        *("flute", "flute melody", _HIGH, _harmonics(1, 0.28, 0.1, 0.04)), 0.03, 0.0, 1.0, 0.15
    ),
    "organ": Instrument(
        *("organ", "organ melody", _PENTATONIC),
        _harmonics(1, 0.8, 0.6, 0.5, 0, 0.4, 0, 0.35, 0, 0.2),
        *(0.012, 0.0, 0.8, -0.15),
    ),
    "guitar": Instrument(
        *("guitar", "guitar melody", _PENTATONIC, _falling(17, 0.9)), 0.004, 0.45, 1.3, -0.4
    ),
    "bells": Instrument("bells", "bells melody", _HIGH, _BELL, 0.003, 0.8, 1.0, 0.4),
    "bass": Instrument(
        *("bass", "bass line", (6, 8, 9, 10, 12), _falling(21, 1.1)), 0.006, 0.7, 1.4, 0.0
    ),
}
_PAD = Instrument("synth pad", "warm synth pad", (), _falling(12, 1.2), 0.04, 0.0, 0.9, 0.0)

DRUM_PARTS = {
    "kick drum": ("kick",),
    "snare drum": ("snare",),
    "hi-hat": ("hat",),
    "drum beat": ("kick", "snare", "hat"),
}
CLASSES = (*INSTRUMENTS, *DRUM_PARTS, "synth pad")
"""What a prompt may ask for alone."""
PAIRS = (
    *(("flute", "drum beat"), ("organ", "drum beat"), ("guitar", "drum beat")),
    *(("bells", "drum beat"), ("bass", "drum beat")),
    *(("flute", "synth pad"), ("guitar", "synth pad"), ("bells", "synth pad")),
)

KNOWS = (
    f"The demo model knows: {', '.join(CLASSES)}; some of them together ("
    f"{', '.join(' with '.join(pair) for pair in PAIRS[:2])}, ...); chords {', '.join(CHORDS)}; "
    f"{', '.join(map(str, BEATS))} BPM; 1 to {LONGEST:g} s."
)


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip and what is true of it.

    Attributes:
        audio: float32 [2, samples], whole frames; silent from the last whole frame of `seconds`.
        caption: prompt.
        seconds: length as the model is told it.
        parts: one or two of CLASSES.
        bpm: a key of BEATS.
        chord: key of CHORDS that is held; "" = none.
    """

    audio: Audio
    caption: str
    seconds: float
    parts: tuple[str, ...]
    bpm: int
    chord: str = ""


def make_clip(
    rng: np.random.Generator,
    parts: Sequence[str] | None = None,
    seconds: float | None = None,
    bpm: int | None = None,
) -> Clip:
    """A clip; what is not given is drawn.

    Args:
        rng: of everything random.
        parts: one of CLASSES or a pair of PAIRS.
        seconds: 1 or more.
        bpm: one of BEATS.
    """
    parts = parts or draw_parts(rng)
    bpm = bpm or int(rng.choice(list(BEATS)))
    seconds = seconds or draw_seconds(rng)
    frames = int(seconds * RATE / FRAME + 1e-6)
    audio = np.zeros((2, frames * FRAME))
    chord = ""
    for place, name in enumerate(parts):
        if name in DRUM_PARTS:
            _add_drums(audio, DRUM_PARTS[name], BEATS[bpm])
        elif name in INSTRUMENTS:
            _add_melody(audio, INSTRUMENTS[name], BEATS[bpm], rng)
        else:
            held = list(CHORDS)[rng.integers(len(CHORDS))] if rng.random() < 0.5 else ""
            chord = held if len(parts) == 1 else ""
            _add_pad(audio, chord, BEATS[bpm], 0.6 if place else 1.0, rng)
    audio[:, -TICK:] *= np.linspace(1, 0, TICK)
    caption = write_caption(rng, parts, bpm, chord)
    audio *= LEVEL
    return Clip(audio.astype(np.float32), caption, seconds, tuple(parts), bpm, chord)


def draw_parts(rng: np.random.Generator) -> tuple[str, ...]:
    """One of CLASSES, or a pair of PAIRS in a quarter of the cases."""
    if rng.random() < 0.25:
        return PAIRS[rng.integers(len(PAIRS))]
    return (CLASSES[rng.integers(len(CLASSES))],)


def draw_seconds(rng: np.random.Generator) -> float:
    """Length of a clip: 1 to 12 s, the short ones more often."""
    if rng.random() < 0.5:
        return float(rng.choice([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, LONGEST]))
    return round(float(np.exp(rng.uniform(0, np.log(LONGEST)))), 2)


# --- captions -------------------------------------------------------------------------------------
FILLERS = (
    *("bright", "mellow", "clean", "gentle", "dreamy", "happy", "sad", "slow", "lush", "vintage"),
    *("reverb", "studio", "recording", "quality", "instrumental", "ambient", "cinematic", "lo-fi"),
    *("a", "the", "with", "of", "and", "sound", "music", "track", "song", "playing"),
)


def make_caption(rng: np.random.Generator) -> str:
    """A caption without its clip."""
    parts = draw_parts(rng)
    chord = list(CHORDS)[rng.integers(len(CHORDS))] if parts == ("synth pad",) else ""
    return write_caption(rng, parts, int(rng.choice(list(BEATS))), chord)


def write_caption(rng: np.random.Generator, parts: Sequence[str], bpm: int, chord: str = "") -> str:
    """A prompt that names a clip's parts, tempo and held chord in one of several ways."""
    words = [INSTRUMENTS[p].words if p in INSTRUMENTS else p for p in parts]
    phrases = [INSTRUMENTS[p].phrase if p in INSTRUMENTS else p for p in parts]
    named = f"{bpm + int(rng.integers(-1, 2)) if rng.random() < 0.3 else bpm} BPM"
    if parts[0] == "synth pad":
        phrases[0] = f"warm synth pad, {chord} chord" if chord else "warm synth pad chords"
    form = rng.integers(4)
    if form == 0:
        kind = "Music, VocalType: Instrumental" if len(words) > 1 else "Instrument"
        key = f" {chord}," if chord else ""
        return f"TrackType: {kind}, Instruments: {', '.join(words)}.{key} {named}."
    text = " with ".join(phrases)
    if form == 1:  # words without meaning here, to be passed over
        extra = [str(word) for word in rng.choice(FILLERS, rng.integers(1, 5))]
        text = f"{' '.join(extra[:2])} {text}{', ' if extra[2:] else ''}{' '.join(extra[2:])}"
    return f"{text}, {named}" if form < 3 else f"{text} {named}"


# --- instruments ----------------------------------------------------------------------------------
@cache
def _wave(name: str, note: tuple[int, ...]) -> NDArray[np.float64]:
    """[2, FRAME] of tones: every partial with a phase of its own, the sides a little apart."""
    instrument = INSTRUMENTS.get(name, _PAD)
    rng = np.random.default_rng(zlib.crc32(f"{name} {note}".encode()))
    turn = 2 * np.pi * np.arange(FRAME) / FRAME
    wave = np.zeros((2, FRAME))
    for tone in note:
        for multiple, amplitude in instrument.partials:
            cycles = round(tone * multiple)
            phase = rng.uniform(0, 2 * np.pi)
            apart = 0.3 if multiple > 1 else 0.0
            if cycles < 1500:  # 16 kHz
                wave[0] += amplitude * np.sin(cycles * turn + phase + apart)
                wave[1] += amplitude * np.sin(cycles * turn + phase - apart)
    sides = np.sqrt(np.array([[1 - instrument.pan], [1 + instrument.pan]]))
    return wave * sides * 0.1 / np.sqrt((wave**2).mean())


def _add_note(
    audio: NDArray[np.float64], name: str, note: tuple[int, ...], start: int, frames: int
) -> None:
    """Add a note from frame `start` on; it fades out within its last quarter of a frame."""
    instrument = INSTRUMENTS.get(name, _PAD)
    begin = start * FRAME
    total = min(audio.shape[1] - begin, frames * FRAME)
    if total <= 0:
        return
    t = np.arange(total) / RATE
    envelope = np.sin(np.minimum(1, t / instrument.attack) * np.pi / 2) ** 2
    if instrument.decay:
        envelope *= np.exp(-t / instrument.decay)
    envelope[-TICK // 2 :] *= np.linspace(1, 0, TICK // 2)
    wave = np.tile(_wave(name, note), (1, -(-total // FRAME)))[:, :total]
    audio[:, begin : begin + total] += instrument.gain * envelope * wave


def _add_melody(
    audio: NDArray[np.float64], instrument: Instrument, beat: int, rng: np.random.Generator
) -> None:
    """A walk over the instrument's notes in steps of a half, one or two beats."""
    name = instrument.words
    place, at = int(rng.integers(len(instrument.notes))), 0
    frames = audio.shape[1] // FRAME
    while at < frames:
        length = int(rng.choice([beat // 2, beat, 2 * beat], p=[0.25, 0.6, 0.15]))
        if length < beat:  # two halves, so that the next note is on the beat again
            _add_note(audio, name, (instrument.notes[place],), at, length)
            place = _next(place, len(instrument.notes), rng)
            at, length = at + length, beat - length
        _add_note(audio, name, (instrument.notes[place],), at, length)
        place = _next(place, len(instrument.notes), rng)
        at += length


def _next(place: int, count: int, rng: np.random.Generator) -> int:
    """Another note, up to two steps away."""
    step = int(rng.choice([-2, -1, 1, 2]))
    return place + step if 0 <= place + step < count else place - step


def _add_pad(
    audio: NDArray[np.float64], chord: str, beat: int, gain: float, rng: np.random.Generator
) -> None:
    """Chords of four beats, or one that is held."""
    frames = audio.shape[1] // FRAME
    own = np.zeros_like(audio)
    names = list(CHORDS)
    place = int(rng.integers(len(names)))
    length = frames if chord else 4 * beat
    for at in range(0, frames, length):
        _add_note(own, "synth pad", CHORDS[chord or names[place]], at, length)
        place = _next(place, len(names), rng)
    audio += gain * own


# --- drums ----------------------------------------------------------------------------------------
@cache
def drum(name: str) -> NDArray[np.float64]:
    """The sample [2, n] of "kick", "snare" or "hat"; the hi-hat is to the right."""
    rng = np.random.default_rng(5)
    t = np.arange(int(0.3 * RATE)) / RATE
    noise = rng.normal(size=(2, len(t)))
    noise = 0.7 * noise.mean(0) + 0.3 * noise
    fade = np.clip((t[-1] - t) / 0.03, 0, 1)
    if name == "kick":
        sweep = np.cumsum(48 + 130 * np.exp(-t / 0.03)) / RATE
        body = np.sin(2 * np.pi * sweep) * np.exp(-t / 0.1) * 0.8
        return np.stack([body, body]) * fade
    if name == "snare":
        body = 0.35 * np.sin(2 * np.pi * 190 * t) * np.exp(-t / 0.06)
        return (0.28 * noise * np.exp(-t / 0.06) + body) * fade
    bright = np.diff(noise, n=2, axis=1, prepend=np.zeros((2, 2)))
    return 0.09 * bright * np.exp(-t / 0.02) * fade * [[0.6], [1.3]]


def _add_hit(audio: NDArray[np.float64], name: str, start: int, gain: float = 1.0) -> None:
    sample = drum(name)
    count = min(audio.shape[1] - start, sample.shape[1])
    if count > 0:
        audio[:, start : start + count] += gain * sample[:, :count]


def _add_drums(audio: NDArray[np.float64], parts: Sequence[str], beat: int) -> None:
    """One hit a beat; kick and snare together take turns, with hi-hats in eighths."""
    together = "kick" in parts and "snare" in parts
    for count in range(2 * audio.shape[1] // (beat * FRAME) + 2):
        start, on_beat = count * beat * FRAME // 2, count % 2 == 0
        if "hat" in parts and (on_beat or together):
            _add_hit(audio, "hat", start, 1.0 if on_beat else 0.7)
        if on_beat and "kick" in parts and not (together and count % 4):
            _add_hit(audio, "kick", start)
        if on_beat and "snare" in parts and not (together and count % 4 == 0):
            _add_hit(audio, "snare", start)
