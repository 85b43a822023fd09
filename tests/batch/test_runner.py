"""A batch as a whole, with a recogniser that needs no model: what is done, done again, left alone and counted."""

import errno
import itertools
import json
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fun_asr.audio.excerpt import Excerpt
from fun_asr.batch import runner, shards
from fun_asr.batch.engine import InProcessEngine, Result
from fun_asr.batch.journal import JOURNAL_FILE, Journal
from fun_asr.batch.runner import BatchRun, Failure, Summary, describe
from fun_asr.batch.shards import Task
from fun_asr.errors import AudioDecodeError
from fun_asr.inputs.discover import Search, find_recordings
from fun_asr.inputs.sources import Recording
from fun_asr.transcript import Segment, Transcript, TranscriptionFailure
from fun_asr.writers.formats import make_writers
from fun_asr.writers.subtitles import SubtitleOptions


@dataclass
class FakeRecogniser:
    """Writes each file's content and, as the arithmetic of a batch may, what was transcribed with it."""

    before: Callable[[str], None] = lambda path: None
    calls: list[list[str]] = field(default_factory=list)

    def transcribe(self, paths: Sequence[str], language: str | None) -> Generator[Result, None, None]:
        self.calls.append([os.path.basename(path) for path in paths])
        # Read ahead, as the real one does.
        contents = {path: Path(path).read_text() if os.path.exists(path) else "" for path in paths}
        neighbours = " ".join(contents.values())
        for path in paths:
            self.before(path)
            if contents[path].startswith("bad"):
                yield TranscriptionFailure(path=path, error=AudioDecodeError(path, "is bad"))
                continue
            text = f"{contents[path]} beside {neighbours}"
            segment = Segment(start=0, end=2, text=text, language=language, language_probability=None, score=None)
            yield Transcript(path=path, duration=2.0, language=language, language_probability=None, segments=(segment,))


@dataclass
class Observer:
    left: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    def planned(self, tasks: Sequence[Task], left: Sequence[Task]) -> None:
        self.left = [os.path.basename(task.path) for task in left]

    def done(self, task: Task, transcript: Transcript) -> None:
        self.finished.append(os.path.basename(task.path))

    def failed(self, task: Task | None, failure: Failure) -> None:
        pass


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FEWEST_FILES", 3)
    monkeypatch.setattr(shards, "MOST_FILES", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(8):
        (tmp_path / "in" / f"{number}.wav").write_text("bad" if number == 4 else f"text {number}")
    return tmp_path / "in"


@dataclass
class Batch:
    summary: Summary
    recogniser: FakeRecogniser
    observer: Observer


def run(
    folder: Path,
    recogniser: FakeRecogniser | None = None,
    *,
    formats: Iterable[str] = ("txt",),
    config: str = "c",
    output: str = "out",
    **options: object,
) -> Batch:
    recogniser, observer = recogniser or FakeRecogniser(), Observer()
    output_dir = folder.parent / output
    output_dir.mkdir(exist_ok=True)
    inputs = find_recordings([str(folder)], Search())
    with Journal(output_dir / JOURNAL_FILE) as journal:
        writers = make_writers(formats, SubtitleOptions())
        named = any(writer.names_recordings for writer in writers.values())
        recordings = map(Recording, inputs.recordings)
        tasks, missing = describe(recordings, inputs.folder, config, None, journal, named=named)
        batch = BatchRun(
            tasks=tasks,
            journal=journal,
            engine=InProcessEngine(lambda _: recogniser),
            writers=writers,
            output_dir=output_dir,
            observer=observer,
            failures=missing,
            **options,  # type: ignore[arg-type]
        )
        return Batch(batch.run(), recogniser, observer)


def outputs(output_dir: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(output_dir)): path.read_bytes()
        for path in output_dir.rglob("*")
        if path.is_file() and path.name != JOURNAL_FILE
    }


def test_good_ones_are_written_and_bad_ones_named(folder: Path) -> None:
    summary = run(folder, formats=("txt", "json")).summary
    written = outputs(folder.parent / "out")
    assert len(written) == 14 and written["0.txt"] == b"text 0 beside text 0 text 1 text 2\n"
    assert (summary.transcribed, summary.left, summary.audio_seconds, summary.status) == (7, 0, 14.0, "finished")
    report = json.loads(json.dumps(summary.to_dict()))
    assert report["failures"] == [{"path": str(folder / "4.wav"), "kind": "AudioDecodeError", "cause": "is bad"}]


def test_a_second_run_does_only_what_failed(folder: Path) -> None:
    run(folder)
    again = run(folder)
    assert again.recogniser.calls == [["4.wav"]]
    assert (again.summary.done_before, again.summary.transcribed, len(again.summary.failures)) == (7, 0, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "6.wav").write_text("another text"),
        lambda folder: os.utime(folder / "6.wav", (1, 1)),
        lambda folder: (folder.parent / "out" / "6.txt").unlink(),
        lambda folder: (folder.parent / "out" / "6.txt").write_bytes(b""),
    ],
    ids=["content", "mtime", "output gone", "output emptied"],
)
def test_what_changed_or_lost_its_output_is_done_again(folder: Path, change: Callable[[Path], object]) -> None:
    run(folder)
    change(folder)
    assert run(folder).observer.left == ["4.wav", "6.wav"]
    assert outputs(folder.parent / "out")["6.txt"].endswith(
        b"text 6\n" if "another" not in (folder / "6.wav").read_text() else b"another text\n"
    )


def test_a_new_recording_or_format_or_model(folder: Path) -> None:
    run(folder)
    (folder / "9.wav").write_text("text 9")
    assert run(folder).observer.left == ["4.wav", "9.wav"]
    assert len(run(folder, formats=("txt", "srt")).observer.left) == 9
    assert len(run(folder, formats=("txt",)).observer.left) == 1
    assert len(run(folder, config="another").observer.left) == 9


def test_an_interrupted_run_taken_up_again_is_byte_for_byte_one_never_interrupted(folder: Path) -> None:
    run(folder, output="whole")
    for stop in itertools.count():
        started = 0

        def interrupt(path: str, stop: int = stop) -> None:
            nonlocal started
            started += 1
            if started > stop:
                raise KeyboardInterrupt

        first = run(folder, FakeRecogniser(interrupt), output=f"out{stop}")
        second = run(folder, output=f"out{stop}")
        assert outputs(folder.parent / f"out{stop}") == outputs(folder.parent / "whole")
        assert sorted(first.observer.finished + second.observer.finished) == [f"{n}.wav" for n in range(8) if n != 4]
        if first.summary.status == "finished":
            break
        assert (first.summary.status, first.summary.left) == ("interrupted", 8 - stop)
        # Of the shards of three, those that were finished are not begun again.
        begun = [int(name[0]) for call in second.recogniser.calls for name in call if call != ["4.wav"]]
        assert begun == list(range(stop // 3 * 3, 8))
    assert stop == 8


def test_recordings_that_come_between_do_not_move_the_others(folder: Path) -> None:
    run(folder, output="whole")
    run(folder, FakeRecogniser(_interrupt_at("3.wav")))
    (folder / "00.wav").write_text("new")
    run(folder)
    written = outputs(folder.parent / "out")
    assert b"new" in written.pop("00.txt")
    assert {name: written[name] for name in ("0.txt", "3.txt", "5.txt")} == {
        name: outputs(folder.parent / "whole")[name] for name in ("0.txt", "3.txt", "5.txt")
    }


def _interrupt_at(name: str) -> Callable[[str], None]:
    def before(path: str) -> None:
        if path.endswith(name):
            raise KeyboardInterrupt

    return before


def test_overwrite_does_everything_again_and_can_itself_be_interrupted(folder: Path) -> None:
    run(folder)
    assert len(run(folder, overwrite=True).observer.left) == 8
    run(folder, FakeRecogniser(_interrupt_at("3.wav")), overwrite=True)
    assert run(folder).observer.left == [f"{number}.wav" for number in range(3, 8)]


def test_a_file_that_no_batch_wrote_is_left_alone(folder: Path) -> None:
    (folder.parent / "out").mkdir()
    (folder.parent / "out" / "2.txt").write_text("my notes")
    for _ in range(2):
        summary = run(folder).summary
        assert (folder.parent / "out" / "2.txt").read_text() == "my notes"
        assert "2.txt: exists, and no batch wrote it; --overwrite replaces it" in str(summary.failures[0].error)
    assert summary.done_before == 6
    run(folder, overwrite=True)
    assert (folder.parent / "out" / "2.txt").read_text().startswith("text 2")


@pytest.mark.parametrize(("limit", "done", "left"), [(1, 4, 3), (2, 7, 0)])
def test_enough_failures_stop_the_run(folder: Path, limit: int, done: int, left: int) -> None:
    summary = run(folder, max_failures=limit).summary
    assert (summary.transcribed, summary.left) == (done, left)
    assert summary.status == ("stopped" if left else "finished")


def test_a_vanished_recording_is_named_and_the_rest_is_done(folder: Path) -> None:
    def vanish(path: str) -> None:
        (folder / "7.wav").unlink(missing_ok=True)

    class Recogniser(FakeRecogniser):
        def transcribe(self, paths: Sequence[str], language: str | None) -> Generator[Result, None, None]:
            for result in super().transcribe(paths, language):
                if os.path.exists(result.path or ""):
                    yield result
                else:
                    error = AudioDecodeError(result.path or "", os.strerror(errno.ENOENT))
                    yield TranscriptionFailure(path=result.path or "", error=error)

    summary = run(folder, Recogniser(vanish)).summary
    assert summary.transcribed == 6
    assert [Path(failure.path or "").name for failure in summary.failures] == ["4.wav", "7.wav"]
    assert run(folder).summary.total == 7


def test_a_full_disk_is_named_once_and_made_good_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder, output="whole")
    original = runner.write_atomically

    def full(path: Path, content: bytes, temporary_name: str | None = None, *, sync: bool = False) -> None:
        if path.name in ("2.txt", "3.txt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, content, temporary_name, sync=sync)

    monkeypatch.setattr(runner, "write_atomically", full)
    summary = run(folder).summary
    # What comes after it would have no room either.
    assert (summary.transcribed, len(summary.failures), summary.left, summary.status) == (2, 1, 5, "stopped")
    assert str(summary.failures[0].error).endswith("/2.txt: No space left on device")
    monkeypatch.undo()
    monkeypatch.setattr(shards, "FEWEST_FILES", 3)
    monkeypatch.setattr(shards, "MOST_FILES", 3)
    run(folder)
    assert outputs(folder.parent / "out") == outputs(folder.parent / "whole")


def test_a_disk_that_is_full_at_the_last_recording_is_not_finished(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = runner.write_atomically

    def full(path: Path, content: bytes, temporary_name: str | None = None, *, sync: bool = False) -> None:
        if path.name == "7.txt":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, content, temporary_name, sync=sync)

    monkeypatch.setattr(runner, "write_atomically", full)
    summary = run(folder).summary
    assert (summary.left, summary.status) == (0, "stopped")


def test_parts_of_a_recording_stay_in_one_shard(folder: Path) -> None:
    parts = [Recording(str(folder / "1.wav"), excerpt=Excerpt(str(folder / "1.wav"), n, 1)) for n in range(7)]
    with Journal(folder.parent / "j") as journal:
        recordings = [Recording(str(folder / "0.wav")), *parts, Recording(str(folder / "2.wav"))]
        tasks, _ = describe(recordings, str(folder), "c", None, journal)
        planned = shards.plan(tasks, journal, ())
    names = [[task.name for task in shard.tasks] for shard in planned]
    assert names == [["0", "1", *(f"1@{n}" for n in range(1, 7))], ["2"]]


def test_what_breaks_a_worker_is_found_and_the_rest_is_done(folder: Path) -> None:
    def break_down(path: str) -> None:
        if path.endswith("1.wav"):
            raise MemoryError("too long")

    summary = run(folder, FakeRecogniser(break_down)).summary
    assert [str(failure.error) for failure in summary.failures] == [
        f"{folder / '1.wav'}: MemoryError: too long",
        f"{folder / '4.wav'}: is bad",
    ]
    assert summary.transcribed == 6


def test_check_files_names_what_does_not_open_before_anything_else(folder: Path) -> None:
    batch = run(folder, check_files=True, max_failures=1)
    assert batch.recogniser.calls == []
    assert len(batch.summary.failures) == 8  # none of them is audio
    assert "0.wav" in str(batch.summary.failures[0].error)


def test_what_is_no_file_is_never_opened(folder: Path) -> None:
    os.mkfifo(folder.parent / "pipe.wav")
    with Journal(folder.parent / "j") as journal:
        recordings = [Recording(str(folder.parent / "pipe.wav")), Recording(str(folder / "no.wav"))]
        tasks, failures = describe(recordings, str(folder), "c", None, journal)
    assert tasks == []
    assert [str(failure.error).rpartition(": ")[2] for failure in failures] == [
        "is not a regular file",
        "No such file or directory",
    ]


def test_each_language_has_its_shards(folder: Path) -> None:
    with Journal(folder.parent / "j") as journal:
        recordings = [Recording(str(folder / f"{n}.wav"), language="de" if n % 2 else "en") for n in range(8)]
        tasks, _ = describe(recordings, str(folder), "c", None, journal)
        planned = shards.plan(tasks, journal, ())
    assert [[task.name for task in shard.tasks] for shard in planned] == [
        ["0", "2", "4"],
        ["6"],
        ["1", "3", "5"],
        ["7"],
    ]


def test_long_recordings_fill_a_shard_sooner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MOST_SECONDS", 2 * 6 / 32_000)
    with Journal(folder.parent / "j") as journal:
        tasks, _ = describe([Recording(str(folder / f"{n}.wav")) for n in range(4)], str(folder), "c", None, journal)
        planned = shards.plan(tasks, journal, ())
    assert [[task.name for task in shard.tasks] for shard in planned] == [["0", "1"], ["2", "3"]]


@pytest.mark.parametrize(("files", "workers", "sizes"), [(300, 1, {128, 44}), (300, 2, {38, 34}), (40, 8, {16, 8})])
def test_workers_are_kept_busy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: int, workers: int, sizes: set[int]
) -> None:
    monkeypatch.undo()
    for number in range(files):
        (folder / f"{number}.wav").touch()
    with Journal(folder.parent / "j") as journal:
        recordings = [Recording(str(folder / f"{n}.wav")) for n in range(files)]
        tasks, _ = describe(recordings, str(folder), "c", None, journal)
        assert {len(shard.tasks) for shard in shards.plan(tasks, journal, (), workers)} == sizes


def test_recordings_of_one_name_are_told_apart_also_where_one_comes_later(folder: Path) -> None:
    def names() -> dict[str, str]:
        written = outputs(folder.parent / "out")
        return {path: content.decode().split()[0] for path, content in written.items() if path.endswith(".ctm")}

    for path in folder.iterdir():
        path.unlink()
    (folder / "x").mkdir()
    (folder / "x" / "talk.wav").write_text("text")
    run(folder, formats=("ctm",))
    assert names() == {"x/talk.ctm": "talk"}
    (folder / "y").mkdir()
    (folder / "y" / "talk.wav").write_text("text")
    run(folder, formats=("ctm",))
    assert names() == {"x/talk.ctm": "x/talk", "y/talk.ctm": "y/talk"}
    assert run(folder, formats=("ctm",)).summary.done_before == 2


def test_other_formats_name_no_recording_and_are_not_done_again(folder: Path) -> None:
    run(folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "1.wav").write_text("text")
    assert run(folder).summary.transcribed == 1
