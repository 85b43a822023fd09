"""Worker processes: their work, their deaths, and Ctrl-C."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fun_asr.batch.engine import Event, MakeTranscriber, RecordingDone, Work, WorkEnded
from fun_asr.batch.processes import ProcessEngine
from fun_asr.errors import CheckpointError, FunASRError
from fun_asr.transcript import Transcript

# A module of its own, since worker processes import what makes their recogniser.
MODULE = """
import os, signal, time
from dataclasses import dataclass
from fun_asr.errors import CheckpointError
from fun_asr.transcript import Transcript

@dataclass
class Make:
    load: str = "well"

    def __call__(self, worker):
        if self.load == "raise":
            raise CheckpointError("/no/model: no model directory")
        if self.load == "die":
            os._exit(3)
        return self

    def transcribe(self, paths, language):
        for path in paths:
            if "kill" in path:
                os.kill(os.getpid(), signal.SIGKILL)
            if "raise" in path:
                raise RuntimeError("out of memory")
            if "sleep" in path:
                time.sleep(0.2)
            if "hang" in path:
                time.sleep(600)
            yield Transcript(path=f"{path} {os.getpid()}", duration=1, language=language,
                             language_probability=None, segments=())
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MakeTranscriber]:
    (tmp_path / "fake_recogniser.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)  # type: ignore[no-untyped-call]
    monkeypatch.delitem(sys.modules, "fake_recogniser", raising=False)
    made: Callable[..., MakeTranscriber] = importlib.import_module("fake_recogniser").Make
    return made


def events(engine: ProcessEngine, *works: str) -> list[Event]:
    left = [Work(number, tuple(paths.split()), "en") for number, paths in enumerate(works)]
    return list(engine.run(lambda: left.pop(0) if left else None))


def named(found: list[Event]) -> list[tuple[int, str]]:
    return [
        (event.work, (event.result.path or "").split()[0])
        for event in found
        if isinstance(event, RecordingDone) and isinstance(event.result, Transcript)
    ]


def test_two_workers_share_the_work(make: Callable[..., MakeTranscriber]) -> None:
    found = events(ProcessEngine(make(), 2), "a sleep", "b sleep", "c sleep", "d sleep")
    assert sorted(named(found)) == [
        (0, "a"),
        (0, "sleep"),
        (1, "b"),
        (1, "sleep"),
        (2, "c"),
        (2, "sleep"),
        (3, "d"),
        (3, "sleep"),
    ]
    assert sorted(event.work for event in found if event in [WorkEnded(n, None) for n in range(4)]) == [0, 1, 2, 3]
    processes = {
        event.result.path.split()[1] for event in found if isinstance(event, RecordingDone) and event.result.path
    }
    assert len(processes) == 2


def test_a_worker_that_dies_is_replaced(make: Callable[..., MakeTranscriber]) -> None:
    found = events(ProcessEngine(make(), 1), "a kill b", "raise", "c")
    assert named(found) == [(0, "a"), (2, "c")]
    assert [event for event in found if isinstance(event, WorkEnded)] == [
        WorkEnded(0, "the worker process ended (SIGKILL)"),
        WorkEnded(1, "RuntimeError: out of memory"),
        WorkEnded(2, None),
    ]


def test_a_recording_that_takes_too_long_ends_its_work_and_no_other(make: Callable[..., MakeTranscriber]) -> None:
    start = time.monotonic()
    found = events(ProcessEngine(make(), 2, timeout=1.5), "a hang b", "c sleep sleep sleep sleep", "d")
    assert time.monotonic() - start < 60
    assert {(0, "a"), (1, "c"), (1, "sleep"), (2, "d")} == set(named(found))
    ends = {event.work: event.error for event in found if isinstance(event, WorkEnded)}
    assert ends == {0: "took longer than 1.5 s (--timeout)", 1: None, 2: None}


def test_a_model_that_does_not_load_ends_the_run(make: Callable[..., MakeTranscriber]) -> None:
    with pytest.raises(CheckpointError, match="/no/model: no model directory"):
        events(ProcessEngine(make("raise"), 1), "a")
    with pytest.raises(FunASRError, match=r"ended \(exit status 3\) while it loaded the model"):
        events(ProcessEngine(make("die"), 1), "a")


def test_a_run_given_up_leaves_no_process(make: Callable[..., MakeTranscriber]) -> None:
    work = [Work(0, ("a", "hang"), None)]
    running = ProcessEngine(make(), 1).run(lambda: work.pop() if work else None)
    first = next(running)
    assert isinstance(first, RecordingDone) and first.result.path is not None
    worker = int(first.result.path.split()[1])
    running.close()
    assert not os.path.exists(f"/proc/{worker}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent_and_say_nothing(tmp_path: Path, number: int, make: object) -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from fake_recogniser import Make
from fun_asr.batch.engine import Work
from fun_asr.batch.processes import ProcessEngine

work = [Work(0, ("a", "hang"), None)]
try:
    for event in ProcessEngine(Make(), 1).run(lambda: work.pop() if work else None):
        print(event.result.path.split()[1], flush=True)
except KeyboardInterrupt:
    pass
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    worker = int(process.stdout.readline())
    # An interrupt that reaches the worker before its parent changes nothing.
    os.kill(worker, signal.SIGINT)
    time.sleep(0.3)
    assert os.path.exists(f"/proc/{worker}")
    # To the whole group, as a terminal sends Ctrl-C; a kill reaches the parent alone.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
    assert process.stderr.read() == ""
    process.wait(60)
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{worker}")
