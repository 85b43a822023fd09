"""Word times, speech detection and the guard with the bundled model, as the user of a transcript sees them."""

import itertools
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fun_asr import Segment, Transcriber, Transcript, load_model
from fun_asr.audio.decode import SAMPLE_RATE, decode

DATA = Path(__file__).parent / "data"
ROWS = [json.loads(line) for line in (DATA / "speech.jsonl").open()]
SHORT = [row for row in ROWS if row["audio_filepath"].startswith(("cv", "so762"))]

pytestmark = pytest.mark.slow
Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return load_model()


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def spoken(transcript: Transcript) -> list[Segment]:
    return [chunk for chunk in transcript.chunks if chunk.text]


@pytest.fixture(scope="module")
def joined(transcriber: Transcriber) -> tuple[Transcript, list[tuple[float, float]]]:
    """Two clips far apart, half a second apart, and after silence; and where they lie."""
    places, parts, count = [], [], 0
    for pause, row in zip((8.0, 0.5, 8.0), SHORT, strict=False):
        clip = decode(DATA / row["audio_filepath"])
        start = count + round(pause * SAMPLE_RATE)
        places.append((start / SAMPLE_RATE, (start + len(clip)) / SAMPLE_RATE))
        parts += [silence(pause), clip]
        count = start + len(clip)
    return transcriber.transcribe_samples(np.concatenate([*parts, silence(8)]), language="en"), places


def test_words_lie_in_the_clips_that_they_are_said_in(joined: tuple[Transcript, list[tuple[float, float]]]) -> None:
    transcript, places = joined
    words = [word for segment in transcript.segments for word in segment.words]
    assert transcript.word_times
    for (start, end), row in zip(places, SHORT, strict=False):
        inside = [word for word in words if start - 0.1 <= word.start and word.end <= end + 0.1]
        assert len(inside) == pytest.approx(len(row["text"].split()), abs=1)
    assert all(word.start < word.end for word in words)
    assert all(a.end <= b.start for a, b in itertools.pairwise(words))
    assert all(word.confidence is not None and 0 <= word.confidence <= 1 for word in words)
    assert np.mean([word.confidence for word in words]) > 0.7


def test_chunks_cover_the_recording_and_silence_is_not_among_the_spoken(
    joined: tuple[Transcript, list[tuple[float, float]]],
) -> None:
    transcript, _ = joined
    edges = [0.0, *(chunk.end for chunk in transcript.chunks)]
    assert [chunk.start for chunk in transcript.chunks] == edges[:-1]
    assert edges[-1] == pytest.approx(transcript.duration)
    assert sum(segment.end - segment.start for segment in spoken(transcript)) < transcript.duration - 18
    assert transcript.cut.silent_segments == sum(not chunk.text for chunk in transcript.chunks) >= 3
    assert all(segment.text for segment in transcript.segments)
    for segment in transcript.segments:
        assert " ".join(word.text for word in segment.words) == segment.text


def test_json_has_the_words_or_says_that_there_are_none(transcriber: Transcriber) -> None:
    samples = decode(DATA / SHORT[0]["audio_filepath"])
    found = transcriber.transcribe_samples(samples, language="en").to_dict()
    assert found["word_times"] is True
    assert set(found["segments"][0]["words"][0]) == {"text", "start", "end", "confidence"}
    assert found["cut"] == {"silent_segments": 0, "loops": 0, "words": 0}
    without = transcriber.transcribe_samples(samples, language="en", word_times=False).to_dict()
    assert without["word_times"] is False
    assert without["segments"][0]["words"] == []
    assert without["text"] == found["text"]


def test_words_of_ctc_and_in_other_languages_have_times(transcriber: Transcriber) -> None:
    samples = decode(DATA / SHORT[0]["audio_filepath"])
    bare = transcriber.transcribe_samples(samples, decoding="ctc")
    assert [word.text for segment in bare.segments for word in segment.words] == bare.text.split()
    spanish = transcriber.transcribe_samples(decode(DATA / "es-00003.opus"), language="es")
    (segment,) = spanish.segments
    assert spanish.word_times
    assert [word.text for word in segment.words] == spanish.text.split()
    places = [place for word in segment.words for place in (word.start, word.end)]
    assert places == sorted(places) and 0 <= places[0] and places[-1] <= spanish.duration
    assert all(word.confidence is not None and 0 < word.confidence <= 1 for word in segment.words)
    assert not transcriber.transcribe_samples(
        decode(DATA / "es-00003.opus"), language="es", word_times=False
    ).word_times


@pytest.mark.parametrize("kind", ["silence", "hiss", "tone", "chords", "key clicks"])
@pytest.mark.parametrize("decoding", ["generate", "ctc"])
def test_two_minutes_without_speech_have_no_words(transcriber: Transcriber, kind: str, decoding: str) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(120 * SAMPLE_RATE) / SAMPLE_RATE
    clicks = np.zeros(len(time))
    for place in rng.integers(0, len(time) - 400, 600):
        clicks[place : place + 400] += 0.3 * rng.normal(size=400) * np.exp(-np.arange(400) / 60)
    notes = 220 * 2 ** (rng.integers(0, 25, (241, 3)) / 12)
    phase = 2 * np.pi * np.cumsum(notes[(time * 2).astype(int)], axis=0) / SAMPLE_RATE
    wave = {
        "silence": np.zeros(len(time)),
        "hiss": 0.05 * rng.normal(size=len(time)),
        "tone": 0.1 * np.sin(2 * np.pi * (300 + 250 * np.sin(time)) * time),
        "chords": 0.05 * np.sin(phase).sum(axis=1) * np.exp(-4 * (time * 2 % 1)),
        "key clicks": clicks,
    }[kind]
    found = transcriber.transcribe_samples(wave.astype(np.float32), language="en", decoding=decoding)  # type: ignore[arg-type]
    assert found.text == ""
    assert found.cut.silent_segments == len(found.chunks)
    assert found.segments == ()


def test_speech_in_noise_keeps_its_words(transcriber: Transcriber) -> None:
    clip = decode(DATA / SHORT[0]["audio_filepath"])
    padded = np.concatenate([silence(5), clip, silence(5)])
    noise = np.random.default_rng(0).standard_normal(len(padded)).astype(np.float32)
    loud = padded + noise * np.float32(clip.std() * 10 ** (-10 / 20))
    found = transcriber.transcribe_samples(loud, language="en")
    assert len(found.text.split()) == pytest.approx(len(SHORT[0]["text"].split()), abs=2)
