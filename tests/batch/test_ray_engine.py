"""The Ray engine on a local Ray of two workers: the same events, outputs and journal as of the other engines."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fun_asr.batch.engine import Engine, InProcessEngine, MakeTranscriber
from fun_asr.batch.journal import JOURNAL_FILE, Journal
from fun_asr.batch.ray_engine import RayEngine
from fun_asr.batch.runner import BatchRun, Summary, describe
from fun_asr.errors import CheckpointError
from fun_asr.inputs.discover import Search, find_recordings
from fun_asr.inputs.sources import Recording
from fun_asr.writers.formats import make_writers
from fun_asr.writers.subtitles import SubtitleOptions

ray = pytest.importorskip("ray")

# A module of its own, since actors import what makes their recogniser.
MODULE = """
import os, time
from dataclasses import dataclass
from pathlib import Path
from fun_asr.errors import AudioDecodeError, CheckpointError
from fun_asr.transcript import Segment, Transcript, TranscriptionFailure

@dataclass
class Make:
    log: str
    loads: bool = True

    def __call__(self, worker):
        if not self.loads:
            raise CheckpointError("/no/model: no model directory")
        return self

    def transcribe(self, paths, language):
        for path in paths:
            time.sleep(0.05)
            with open(self.log, "a") as log:
                print(os.getpid(), file=log)
            content = Path(path).read_text()
            if content == "kill":
                os._exit(9)
            if content == "bad":
                yield TranscriptionFailure(path=path, error=AudioDecodeError(path, "is bad"))
                continue
            segment = Segment(start=0, end=1, text=content, language="en", language_probability=None, score=None)
            yield Transcript(path=path, duration=1, language="en", language_probability=None, segments=(segment,))
"""


class Silent:
    def planned(self, *_: object) -> None: ...
    def done(self, *_: object) -> None: ...
    def failed(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("module")
    (folder / "fake_ray_recogniser.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    environment = {"env_vars": {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment, logging_level="ERROR")
    yield importlib.import_module("fake_ray_recogniser")
    ray.shutdown()
    sys.path.remove(str(folder))


def run(folder: Path, output_dir: Path, engine: Engine) -> Summary:
    output_dir.mkdir(exist_ok=True)
    inputs = find_recordings([str(folder)], Search())
    with Journal(output_dir / JOURNAL_FILE) as journal:
        tasks, missing = describe(map(Recording, inputs.recordings), inputs.folder, "c", None, journal)
        return BatchRun(
            tasks=tasks,
            journal=journal,
            engine=engine,
            writers=make_writers(["txt", "json"], SubtitleOptions()),
            output_dir=output_dir,
            observer=Silent(),
            failures=missing,
        ).run()


def written(output_dir: Path) -> tuple[dict[str, bytes], list[str]]:
    files = {path.name: path.read_bytes() for path in output_dir.iterdir() if path.name != JOURNAL_FILE}
    journal = (output_dir / JOURNAL_FILE).read_text().splitlines()
    # Whichever worker is first decides on the order.
    return files, sorted(json.dumps(json.loads(line), sort_keys=True) for line in journal)


@pytest.mark.slow
def test_two_actors_write_what_one_process_writes(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fun_asr.batch.shards.FEWEST_FILES", 2)
    monkeypatch.setattr("fun_asr.batch.shards.MOST_FILES", 2)
    (tmp_path / "in").mkdir()
    for number in range(10):
        (tmp_path / "in" / f"{number}.wav").write_text("bad" if number == 3 else f"text {number}")

    def make(name: str) -> MakeTranscriber:
        made: MakeTranscriber = module.Make(str(tmp_path / name))
        return made

    summary = run(tmp_path / "in", tmp_path / "ray", RayEngine(make("ray.log"), workers=2, threads=1))
    assert (summary.transcribed, [str(f.error) for f in summary.failures]) == (9, [f"{tmp_path / 'in/3.wav'}: is bad"])
    run(tmp_path / "in", tmp_path / "local", InProcessEngine(make("local.log")))
    assert written(tmp_path / "ray") == written(tmp_path / "local")
    assert len(set((tmp_path / "ray.log").read_text().split())) == 2

    # Taken up again, it does what is new, and an actor that dies costs the recording that killed it.
    (tmp_path / "in" / "a.wav").write_text("kill")
    (tmp_path / "in" / "b.wav").write_text("text b")
    summary = run(tmp_path / "in", tmp_path / "ray", RayEngine(make("again.log"), workers=0, threads=1))
    assert (summary.done_before, summary.transcribed) == (9, 1)
    assert [str(failure.error).split(": ")[1] for failure in summary.failures] == ["is bad", "the Ray worker ended"]

    with pytest.raises(CheckpointError, match="no model directory"):
        run(tmp_path / "in", tmp_path / "none", RayEngine(module.Make("", loads=False), workers=1, threads=1))
