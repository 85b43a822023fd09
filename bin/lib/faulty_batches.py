"""What must hold of a batch after a fault: nothing is falsely done, and the run taken up ends as if undisturbed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from faults import FAULTS, Disk, Fault, in_child

from fun_asr.audio.excerpt import Excerpt
from fun_asr.batch import shards
from fun_asr.batch.engine import InProcessEngine
from fun_asr.batch.journal import JOURNAL_FILE, Journal
from fun_asr.batch.runner import BatchRun, Failure, Summary, describe
from fun_asr.batch.shards import Task
from fun_asr.errors import AudioDecodeError, FunASRError
from fun_asr.inputs.discover import Search, find_recordings
from fun_asr.inputs.sources import Recording
from fun_asr.transcript import Result, Segment, Transcript, TranscriptionFailure
from fun_asr.writers.formats import make_writers
from fun_asr.writers.subtitles import SubtitleOptions

__all__ = ["SCENARIOS", "Scenario", "check_faults", "count_operations", "output_files", "run_batch"]


@dataclass
class ContentAsText:
    """A recogniser that writes each file's content and, as the arithmetic of a batch may, its neighbours'."""

    asked: list[str] = field(default_factory=list)

    def transcribe(self, paths: Sequence[str | Excerpt], language: str | None) -> Generator[Result, None, None]:
        contents = [Path(path).read_text(encoding="utf-8") for path in paths]
        for path, content in zip((os.fspath(path) for path in paths), contents, strict=True):
            self.asked.append(os.path.basename(path))
            if content.startswith("bad"):
                yield TranscriptionFailure(path=path, error=AudioDecodeError(path, "is bad"))
                continue
            text = f"{content} beside {' '.join(contents)}"
            segment = Segment(start=0, end=2, text=text, language=language, language_probability=None, score=None)
            yield Transcript(path=path, duration=2.0, language=language, language_probability=None, segments=(segment,))


class _Silent:
    def planned(self, tasks: Sequence[Task], left: Sequence[Task]) -> None: ...

    def done(self, task: Task, transcript: Transcript) -> None: ...

    def failed(self, task: Task | None, failure: Failure) -> None: ...


@contextmanager
def small_shards() -> Iterator[None]:
    """Two recordings are transcribed together."""
    with mock.patch.object(shards, "FEWEST_FILES", 2), mock.patch.object(shards, "MOST_FILES", 2):
        yield


def run_batch(folder: Path, output: Path, *, overwrite: bool = False, config: str = "c") -> tuple[Summary, list[str]]:
    """One run over a folder; returns its summary and the recordings that the recogniser was given."""
    recogniser = ContentAsText()
    inputs = find_recordings([str(folder)], Search())
    with small_shards(), Journal(output / JOURNAL_FILE) as journal:
        tasks, missing = describe(map(Recording, inputs.recordings), inputs.folder, config, None, journal)
        batch = BatchRun(
            tasks=tasks,
            journal=journal,
            engine=InProcessEngine(lambda _: recogniser),
            writers=make_writers(("txt", "json"), SubtitleOptions()),
            output_dir=output,
            observer=_Silent(),
            failures=missing,
            overwrite=overwrite,
        )
        return batch.run(), recogniser.asked


def output_files(output: Path) -> dict[str, bytes]:
    """All but the journal."""
    files = [path for path in output.rglob("*") if path.is_file() and path.name != JOURNAL_FILE]
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Scenario:
    """A batch, and what the output folder holds when it begins."""

    name: str
    contents: tuple[str, ...]
    """Of the recordings; every third is in a folder."""
    earlier: Callable[[Path, Path], object] = lambda folder, output: None
    """What was done before, on recordings and outputs."""
    overwrite: bool = False

    def prepare(self, work: Path) -> tuple[Path, Path]:
        """Make recordings and outputs; returns their folders."""
        folder, output = work / "in", work / "out"
        for number, content in enumerate(self.contents):
            path = folder / ("below" if number % 3 == 2 else "") / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            os.utime(path, (1, 1))
        output.mkdir()
        self.earlier(folder, output)
        return folder, output


def _done_before(folder: Path, output: Path) -> None:
    run_batch(folder, output)


def _done_otherwise(folder: Path, output: Path) -> None:
    run_batch(folder, output, config="another")


def _lost_one_and_changed_one(folder: Path, output: Path) -> None:
    run_batch(folder, output)
    (output / "0.txt").unlink()
    (folder / "1.wav").write_text("changed", encoding="utf-8")
    os.utime(folder / "1.wav", (1, 1))


SCENARIOS = (
    Scenario("new", ("zero", "one", "two")),
    Scenario("new, one bad", ("zero", "bad", "two", "three", "four")),
    Scenario("another model", ("zero", "one", "two"), _done_otherwise),
    Scenario("overwritten", ("zero", "one", "two"), _done_before, overwrite=True),
    Scenario("one lost, one changed", ("zero", "one", "two", "three"), _lost_one_and_changed_one),
)


def count_operations(scenario: Scenario, work: Path) -> list[str]:
    """The operations on files of an undisturbed run."""
    folder, output = scenario.prepare(work)
    disk = Disk(output)
    with disk.installed():
        run_batch(folder, output, overwrite=scenario.overwrite)
    return disk.log


def check_faults(
    scenario: Scenario, work: Path, faults: Sequence[Fault] = FAULTS, *, again: Fault | None = None
) -> tuple[int, list[str]]:
    """Every fault at every operation of a run, each followed by undisturbed runs.

    Arguments:
        scenario: the batch.
        work: an empty folder.
        faults: what goes wrong.
        again: also disturbs the run that takes up, at each of its operations.

    Returns:
        the number of disturbed runs, and a line for each thing that does not hold.
    """
    folder, output = scenario.prepare(work)
    (work / "before").mkdir()
    before = _copied(output, work / "before" / "out")
    old = output_files(output)
    disk = Disk(output)
    with disk.installed():
        run_batch(folder, output, overwrite=scenario.overwrite)
    whole = output_files(output)
    deleted = {name for name in whole if old and name not in old}
    allowed = {name: {whole[name], old.get(name, None if name in deleted else whole[name])} for name in whole}
    bad = sum(content.startswith("bad") for content in scenario.contents)
    runs, problems = 0, []
    for fault in faults:
        for at, operation in enumerate(disk.log):
            where = f"{scenario.name}: {fault.name} at {at} ({operation})"
            _restored(before, output)
            ended = _disturbed(folder, output, Disk(output, fault, at), scenario.overwrite)
            runs += 1
            problems += [f"{where}: {problem}" for problem in [*ended, *_falsely_done(output, allowed)]]
            if again is None:
                problems += [f"{where}: {problem}" for problem in _taken_up(folder, output, scenario, whole, bad)]
                continue
            left = _copied(output, work / "left")
            counted = Disk(output)
            with counted.installed():
                run_batch(folder, output, overwrite=scenario.overwrite)
            for second in range(counted.count):
                _restored(left, output)
                ended = _disturbed(folder, output, Disk(output, again, second), scenario.overwrite)
                runs += 1
                found = [*ended, *_falsely_done(output, allowed), *_taken_up(folder, output, scenario, whole, bad)]
                problems += [f"{where}, {again.name} at {second}: {problem}" for problem in found]
    return runs, problems


def _copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def _restored(source: Path, output: Path) -> None:
    _copied(source, output)


def _disturbed(folder: Path, output: Path, disk: Disk, overwrite: bool) -> list[str]:
    """Run with a fault; what is wrong with how it ended."""
    problems: list[str] = []

    def run() -> None:
        with disk.installed():
            run_batch(folder, output, overwrite=overwrite)

    assert disk.fault is not None
    if not disk.fault.error:
        status = in_child(run)
        # What is written in halves only is no fault where nothing is written.
        return [] if status == -9 or (status == 0 and disk.fault.half) else [f"ended with {status}"]
    try:
        with disk.installed():
            summary, _ = run_batch(folder, output, overwrite=overwrite)
    except FunASRError as error:
        if "\n" in str(error) or not str(error).startswith(str(output)):
            problems.append(f"does not name the file in one line: {error}")
        return problems
    except Exception as error:
        return [f"raised {type(error).__name__}: {error}"]
    if summary.status == "finished" and summary.left:
        problems.append("finished, and something is left")
    named = {failure.path for failure in summary.failures}
    written = output_files(output)
    for path in find_recordings([str(folder)], Search()).recordings:
        name = os.path.relpath(os.path.splitext(path)[0], folder)
        if summary.status == "finished" and path not in named and f"{name}.json" not in written:
            problems.append(f"{name} is lost in silence")
    return problems


def _falsely_done(output: Path, allowed: dict[str, set[bytes | None]]) -> list[str]:
    """Outputs that are not whole, though they bear their name or are recorded; None allows one that was lost before."""
    problems = []
    written = output_files(output)
    for name, content in written.items():
        if not name.endswith(".tmp") and content not in allowed[name]:
            problems.append(f"{name} is neither as before nor whole")
    if not (output / JOURNAL_FILE).exists():
        return problems
    with Journal(output / JOURNAL_FILE) as journal:
        for entry in journal.entries.values():
            for form, size in entry.outputs.items():
                found = written.get(f"{entry.name}.{form}")
                # Of another size, it is known not to be done.
                if found not in allowed[f"{entry.name}.{form}"] and (found is None or len(found) == size):
                    problems.append(f"{entry.name}.{form} is recorded as done")
    return problems


def _taken_up(folder: Path, output: Path, scenario: Scenario, whole: dict[str, bytes], bad: int) -> list[str]:
    """What is wrong with an undisturbed run after a disturbed one."""
    problems = []
    summary, _ = run_batch(folder, output, overwrite=scenario.overwrite)
    if summary.status != "finished" or len(summary.failures) != bad:
        problems.append(f"taken up: {summary.status}, {[str(failure.error) for failure in summary.failures]}")
    if (found := output_files(output)) != whole:
        differing = sorted(name for name in found | whole if found.get(name) != whole.get(name))
        problems.append(f"taken up, other outputs: {differing}")
    summary, asked = run_batch(folder, output)
    if summary.transcribed or len(asked) != bad:
        problems.append(f"not done after all: {asked}")
    return problems
