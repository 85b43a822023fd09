"""Whose segments make a batch together, and who goes first."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import pytest

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.models.protocol import RecognisedSegment, SegmentQueue
from fun_asr.options import TranscriptionOptions
from fun_asr.server.scheduler import Client, ClientGoneError, Scheduler, SharedRecogniser
from tests.streaming.conftest import ToneRecogniser

NO_AUDIO = np.zeros(0, np.float32)
OPTIONS = TranscriptionOptions(batch_size=4)


class Slow(ToneRecogniser):
    """Recognises nothing until it is let; a segment's text is the number of its recording."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.reached = threading.Event()
        self.batches: list[list[int]] = []

    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        self.batches.append(sorted(segment.recording for segment in segments))
        self.reached.set()
        assert self.let.wait(20)
        if any(segment.recording < 0 for segment in segments):
            raise RuntimeError("a segment that breaks the model")
        return [RecognisedSegment(text=str(segment.recording)) for segment in segments]


def segment(recording: int, seconds: float) -> AudioSegment:
    return AudioSegment(recording, Span(0, round(seconds * SAMPLE_RATE)), NO_AUDIO)


class Queue:
    """A scheduler whose model is busy with recording 0."""

    def __init__(self, scheduler: Scheduler, model: Slow, stack: ExitStack) -> None:
        self.scheduler, self.model, self._stack = scheduler, model, stack
        self._calls: dict[Client, tuple[SegmentQueue, int]] = {}
        self.submit(Client(), segment(0, 9))
        assert model.reached.wait(10)

    def submit(self, client: Client, *segments: AudioSegment) -> None:
        call = self._stack.enter_context(self.scheduler.call(client, OPTIONS))
        self._calls[client] = call, len(segments)
        call.submit(segments, ["en"] * len(segments), [None] * len(segments))

    def texts(self, client: Client) -> list[str]:
        """What comes of a client's segments once the model goes on, in the order of their lengths."""
        self.model.let.set()
        call, count = self._calls[client]
        found: list[tuple[AudioSegment, RecognisedSegment]] = []
        while len(found) < count:
            found += call.take()
        return [one.text for _, one in sorted(found, key=lambda pair: len(pair[0].span))]


@pytest.fixture
def queue() -> Iterator[Queue]:
    model = Slow()
    scheduler = Scheduler(model)
    with ExitStack() as stack:
        yield Queue(scheduler, model, stack)
    model.let.set()
    scheduler.stop()


def test_all_that_clients_have_is_there_for_a_batch_of_like_lengths(queue: Queue) -> None:
    clients = [Client() for _ in range(3)]
    for number, client in enumerate(clients, 1):
        queue.submit(client, segment(number, 3), segment(number, 25))
    assert [queue.texts(client) for client in clients] == [["1", "1"], ["2", "2"], ["3", "3"]]
    assert queue.model.batches == [[0], [1, 2, 3], [1, 2, 3]]


def test_a_short_recording_does_not_wait_for_the_end_of_a_long_one(queue: Queue) -> None:
    long, short = Client(), Client()
    queue.submit(long, *[segment(1, 25) for _ in range(12)])
    queue.submit(short, segment(2, 3))
    queue.texts(short), queue.texts(long)
    assert queue.model.batches == [[0], [1] * 4, [2], [1] * 4, [1] * 4]


def test_live_streams_go_first(queue: Queue) -> None:
    file, live = Client(), Client(live=True)
    queue.submit(file, segment(1, 9))
    queue.submit(live, segment(2, 9))
    queue.texts(live), queue.texts(file)
    assert queue.model.batches == [[0], [2], [1]]


def test_a_segment_that_breaks_the_model_is_its_client_s_alone(queue: Queue) -> None:
    good, bad = Client(), Client()
    queue.submit(bad, segment(-1, 9), segment(-1, 25))
    queue.submit(good, segment(1, 9))
    with pytest.raises(RuntimeError, match="breaks the model"):
        queue.texts(bad)
    assert queue.texts(good) == ["1"]


def test_who_goes_leaves_nothing_behind(queue: Queue) -> None:
    gone, stays = Client(), Client()
    queue.submit(gone, segment(1, 9))
    queue.submit(stays, segment(2, 9))
    queue.scheduler.cancel(gone)
    with pytest.raises(ClientGoneError):
        queue.texts(gone)
    assert queue.texts(stays) == ["2"]
    assert queue.model.batches == [[0], [2]]


def test_what_is_not_waited_for_any_more_is_not_recognised(queue: Queue) -> None:
    with queue.scheduler.call(Client(), OPTIONS) as call:
        call.submit([segment(1, 9)], ["en"], [None])
        assert queue.scheduler.waiting == 1
    assert queue.scheduler.waiting == 0


def test_a_call_s_results_are_in_its_order(queue: Queue) -> None:
    queue.model.let.set()
    shared = SharedRecogniser(queue.scheduler, Client())
    segments = [segment(number, seconds) for number, seconds in enumerate((3, 25, 4, 24), 1)]
    assert [one.text for one in shared.recognise(segments, ["en"] * 4, OPTIONS)] == ["1", "2", "3", "4"]
