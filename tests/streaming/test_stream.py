"""Streams: what is final depends on the sound alone, committed words stay, silence says nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
import pytest

from fun_asr import ConfigError
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.vad import SpeechDetector
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.options import TranscriptionOptions
from fun_asr.streaming.events import Committed, Final, Partial, StreamEvent
from fun_asr.streaming.live import StreamOptions
from fun_asr.streaming.stream import AsyncStream, Stream
from tests.streaming.conftest import Samples, ToneRecogniser, spoken

SENTENCES = "one two three four five . . six seven . . . eight one two"


def stream(
    detector: SpeechDetector, recogniser: ToneRecogniser | None = None, rate: int = SAMPLE_RATE, **options: float
) -> Stream:
    return Stream(recogniser or ToneRecogniser(), detector, TranscriptionOptions(), rate, StreamOptions(**options))


def run(live: Stream, samples: Samples, chunk: int = 320) -> list[StreamEvent]:
    return list(live.events([samples[start : start + chunk] for start in range(0, len(samples), chunk)]))


def finals(events: list[StreamEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def test_utterances_end_where_somebody_pauses(detector: SpeechDetector) -> None:
    live = stream(detector)
    events = run(live, spoken(SENTENCES))
    assert finals(events) == ["one two three four five", "six seven", "eight one two"]
    assert live.transcript.text == "one two three four five six seven eight one two"
    numbers = [event.utterance for event in events]
    assert numbers == sorted(numbers) and set(numbers) == {0, 1, 2}
    places = [word.start for event in events if isinstance(event, Final) for s in event.segments for word in s.words]
    assert places == sorted(places)
    assert places[0] == pytest.approx(0.5, abs=0.02)


def test_committed_words_stay_and_the_last_word_is_not_shown_while_it_is_spoken(detector: SpeechDetector) -> None:
    said: dict[int, list[str]] = {}
    shown = 0
    for event in run(stream(detector), spoken(SENTENCES)):
        if isinstance(event, Committed):
            said.setdefault(event.utterance, []).extend(word.text for word in event.words)
        elif isinstance(event, Partial):
            shown += 1
            assert event.committed == " ".join(said.get(event.utterance, []))
            assert event.text == event.text.lower(), "a word was shown that was still being said"
    assert shown > 5
    assert said[0][:3] == ["one", "two", "three"]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_how_the_sound_is_cut_changes_nothing_final(detector: SpeechDetector, rate: int) -> None:
    samples = spoken(SENTENCES)
    at_rate = np.interp(np.arange(0, len(samples), SAMPLE_RATE / rate), np.arange(len(samples)), samples)
    waves = at_rate.astype(np.float32)
    rng = np.random.default_rng(0)
    expected = None
    for sizes in ([rate // 50], [rate // 10], [rate], [len(waves)], rng.integers(1, rate, 400).tolist()):
        live = stream(detector, rate=rate)
        events, start = [], 0
        for size in sizes * (1 + len(waves) // sum(sizes)):
            events += live.feed(waves[start : start + size])
            start += size
        found = [event for event in [*events, *live.finish()] if isinstance(event, Final)]
        expected = expected or found
        assert found == expected
    assert finals(list(expected or [])) == ["one two three four five", "six seven", "eight one two"]


def test_a_speech_without_pauses_is_cut_and_loses_nothing(detector: SpeechDetector) -> None:
    words = " ".join(["one two three four five six seven eight"] * 20)
    recogniser = ToneRecogniser()
    live = stream(detector, recogniser, interval=0)
    run(live, spoken(words), chunk=16_000)
    assert live.transcript.text == words
    assert len(recogniser.asked) > 1
    assert max(seconds for seconds, _ in recogniser.asked) <= 30


def test_partial_results_are_made_of_a_bounded_window(detector: SpeechDetector) -> None:
    recogniser = ToneRecogniser()
    live = stream(detector, recogniser)
    words = " ".join(["one two three four five six seven eight"] * 7)
    events = run(live, spoken(words))
    partial = [seconds for seconds, beam in recogniser.asked if beam == 1]
    assert max(partial) < 11
    committed = [word.text for event in events if isinstance(event, Committed) for word in event.words]
    assert committed == words.split()[: len(committed)] and len(committed) > 50


class Head(ToneRecogniser):
    """Has a CTC head too."""

    def __init__(self) -> None:
        super().__init__()
        self.decodings: list[str] = []

    def prepare(self, options: TranscriptionOptions) -> None:
        pass

    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        self.decodings.append(options.decoding)
        return super().recognise(segments, languages, options, priors)


def test_the_first_impression_is_ctc_s_where_it_knows_the_language(detector: SpeechDetector) -> None:
    for language, partial in (("en", "ctc"), ("de", "generate")):
        recogniser = Head()
        live = Stream(recogniser, detector, TranscriptionOptions(language=language))
        run(live, spoken("one two three four five . ."))
        assert set(recogniser.decodings[:-1]) == {partial}
        assert recogniser.decodings[-1] == "generate"
        assert live.transcript.text == "one two three four five"


def test_what_comes_late_is_recognised_once(detector: SpeechDetector) -> None:
    recogniser = ToneRecogniser()
    live = stream(detector, recogniser)
    live.feed(spoken("one two three four five six"))
    assert len(recogniser.asked) == 1


def test_silence_and_hum_say_nothing(detector: SpeechDetector) -> None:
    recogniser = ToneRecogniser()
    rng = np.random.default_rng(0)
    quiet = (0.0003 * rng.standard_normal(60 * SAMPLE_RATE)).astype(np.float32)
    assert run(stream(detector, recogniser), quiet, chunk=1600) == []
    assert recogniser.asked == []


def test_a_stream_that_ends_in_mid_word_gives_what_was_heard(detector: SpeechDetector) -> None:
    samples = spoken("one two three")
    live = stream(detector)
    events = run(live, samples[: len(samples) - round(0.25 * SAMPLE_RATE)])
    assert finals(events) == ["one two THREE"]
    with pytest.raises(ValueError, match="has ended"):
        live.feed(samples)


def test_streams_share_a_model(detector: SpeechDetector) -> None:
    recogniser = ToneRecogniser()
    results: dict[int, list[str]] = {}

    def one(number: int) -> None:
        results[number] = finals(run(stream(detector, recogniser), spoken(SENTENCES), chunk=320 * (number + 1)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(results.values()) == [["one two three four five", "six seven", "eight one two"]] * 4


def test_asyncio_gives_the_same_events(detector: SpeechDetector) -> None:
    samples = spoken(SENTENCES)

    async def chunks() -> AsyncIterator[Samples]:
        for start in range(0, len(samples), 1600):
            yield samples[start : start + 1600]

    async def listen() -> list[StreamEvent]:
        async with AsyncStream(stream(detector)) as live:
            return [event async for event in live.events(chunks())]

    assert asyncio.run(listen()) == run(stream(detector), samples, chunk=1600)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 100), np.float32), "mono"),
        (np.array([0.0, np.nan], np.float32), "finite"),
        (np.array([0, 1], np.int64), "int64"),
        (np.array([12_000.0], np.float32), "divide by 32768"),
    ],
)
def test_samples_that_are_none_are_refused(detector: SpeechDetector, samples: Samples, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stream(detector).feed(samples)
    with pytest.raises(ConfigError, match="sampling_rate"):
        stream(detector, rate=3)


def test_int16_is_taken_as_it_is(detector: SpeechDetector) -> None:
    samples = spoken("one two three")
    assert finals(run(stream(detector), (samples * 32767).astype(np.int16))) == ["one two three"]  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk", [320, 4_000, 16_000])
def test_what_is_final_does_not_depend_on_when_it_was_recognised(detector: SpeechDetector, chunk: int) -> None:
    # Pauses of 0.35 and 0.5 s do not end an utterance, but begin the final search in vain.
    samples = np.concatenate([spoken("one two"), *[spoken(words)[round(gap * SAMPLE_RATE) :] for gap, words in (
        (0.15, "three four"), (0.0, "five"), (0.2, "six seven . . eight . . . ."))]])  # fmt: skip
    results = []
    for ahead in (True, False):
        live = stream(detector, ahead=ahead)
        events = [event for event in run(live, samples, chunk) if isinstance(event, Final)]
        results.append((events, live.transcript))
    assert results[0] == results[1]
    assert finals(list(results[0][0])) == ["one two three four five six seven", "eight"]


def test_the_final_text_is_there_when_the_utterance_is_found_to_have_ended(detector: SpeechDetector) -> None:
    recogniser = ToneRecogniser()
    live = stream(detector, recogniser, silence=0.6, interval=0)
    samples = spoken("one two three . .")
    searched, said = 0.0, 0.0
    for start in range(0, len(samples), 320):
        events = live.feed(samples[start : start + 320])
        searched = searched or (live.seconds if recogniser.asked else 0.0)
        said = said or (live.seconds if events else 0.0)
    end = 0.5 + 3 * 0.4 - 0.1
    assert searched == pytest.approx(end + 0.2, abs=0.08)
    assert said == pytest.approx(end + 0.6, abs=0.08)
    assert len(recogniser.asked) == 1


def test_speech_that_goes_on_after_a_short_pause_is_recognised_whole(detector: SpeechDetector) -> None:
    recogniser = ToneRecogniser()
    live = stream(detector, recogniser, interval=0)
    run(live, np.concatenate([spoken("one two"), spoken("three . .")[round(0.15 * SAMPLE_RATE) :]]))
    assert live.transcript.text == "one two three"
    assert [round(seconds, 1) for seconds, _ in recogniser.asked] == [1.3, 2.1]
