"""Reading ahead: in order, whatever the threads; far enough, and never without bound."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from fun_asr.audio import prefetch
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.prefetch import RECORDINGS_AHEAD, SECONDS_AHEAD, AudioSegment, EndOfRecording, read_segments
from fun_asr.audio.report import AudioReport
from fun_asr.errors import AudioDecodeError

Samples = npt.NDArray[np.float32]


class Disk:
    """Stands in for files: "3x40" is a recording of three pieces of 40 s. Counts the seconds read of each."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self.lock = threading.Lock()

    def passes(self, path: str, options: AudioOptions, report: AudioReport) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(blocks=lambda: self.blocks(path), channel=None, track=None, apart=None, report=report)

    def blocks(self, path: str) -> Iterator[Samples]:
        pieces, seconds = path.split("#")[0].split("x")
        for _ in range(int(pieces)):
            with self.lock:
                self.read[path] += int(seconds)
            yield np.full(int(seconds) * SAMPLE_RATE, 0.1, np.float32)
        if path.endswith("#bad"):
            raise AudioDecodeError(path, "damaged")

    def wait_for(self, path: str, seconds: float) -> None:
        """Until so much has been read of a file."""
        deadline = time.monotonic() + 30
        while self.read[path] < seconds:
            assert time.monotonic() < deadline, f"{self.read[path]} s of {path} read, not {seconds}"
            time.sleep(0.02)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(prefetch, "passes", disk.passes)
    return disk


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_segments_and_errors_come_in_the_order_of_the_paths(disk: Disk, workers: int) -> None:
    paths = [f"{1 + i % 3}x{10 + 7 * (i % 4)}#{'bad' if i % 5 == 2 else i}" for i in range(3 * RECORDINGS_AHEAD)]
    samples: Counter[int] = Counter()
    ended = []
    for event in read_segments(paths, workers=workers):
        assert event.recording == len(ended)
        if isinstance(event, AudioSegment):
            assert event.span.start == samples[event.recording]
            samples[event.recording] += len(event.samples)
        else:
            assert (event.error is not None) == paths[event.recording].endswith("bad")
            ended.append(event.recording)
    assert ended == list(range(len(paths)))
    for number, path in enumerate(paths):
        if not path.endswith("bad"):
            assert samples[number] == disk.read[path] * SAMPLE_RATE


def test_short_recordings_are_read_while_nobody_asks(disk: Disk) -> None:
    events = read_segments([f"1x6#{i}" for i in range(1000)])
    next(events)
    disk.wait_for(f"1x6#{RECORDINGS_AHEAD - 1}", 6)
    time.sleep(0.2)
    assert disk.read.total() == 6 * RECORDINGS_AHEAD
    events.close()


@pytest.mark.parametrize("workers", [1, 4])
def test_long_recordings_are_read_so_far_and_no_further(disk: Disk, workers: int) -> None:
    paths = [f"500x30#{i}" for i in range(20)]
    events = read_segments(paths, workers=workers)
    consumed = 0.0
    for count in range(1, 40):
        event = next(events)
        assert isinstance(event, AudioSegment)
        consumed += event.span.seconds
        if count in (1, 39):
            # The first one has its share, however far the others are.
            disk.wait_for(paths[0], consumed + SECONDS_AHEAD - 30)
            time.sleep(0.2)
            # Each thread may hold a segment that has no room, and the block being cut.
            assert disk.read[paths[0]] <= consumed + SECONDS_AHEAD + 90
            assert disk.read.total() <= consumed + 2 * SECONDS_AHEAD + workers * 90
    events.close()


def test_a_segment_larger_than_the_room_passes(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "SECONDS_AHEAD", 5.0)
    events = list(read_segments(["4x20#0", "4x20#1", "1x1#2"], workers=3))
    assert [event.recording for event in events if isinstance(event, EndOfRecording)] == [0, 1, 2]
    assert sum(len(event.samples) for event in events if isinstance(event, AudioSegment)) == 161 * SAMPLE_RATE


def test_readers_end_with_the_iterator(disk: Disk) -> None:
    before = set(threading.enumerate())
    events = read_segments([f"500x30#{i}" for i in range(20)], workers=3)
    next(events)
    assert set(threading.enumerate()) - before
    events.close()
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, "reader threads outlive the iterator"
        time.sleep(0.02)
