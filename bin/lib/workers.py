"""Systems in processes of their own, which recognise the same clips when they are told to: for paired measurements."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FASTER_WHISPER", "Run", "Worker", "answer", "main"]

BATCH = 16

FASTER_WHISPER = """
import json, sys, time
import numpy
from faster_whisper import BatchedInferencePipeline, WhisperModel

folder, clips, threads, beam = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
pipeline = BatchedInferencePipeline(WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads))
waves = list(numpy.load(clips).values())
for _ in iter(sys.stdin.readline, ""):
    wall, cpu, tokens = time.perf_counter(), time.process_time(), 0
    for wave in waves:
        segments, _ = pipeline.transcribe(wave, language="en", beam_size=beam, batch_size=16, without_timestamps=True)
        tokens += sum(len(segment.tokens) for segment in segments)
    status = open("/proc/self/status").read()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak, "tokens": tokens}
    print(json.dumps(spent), flush=True)
"""
"""Clip after clip, as `transcribe` of its command line takes a directory."""


@dataclass(frozen=True)
class Run:
    """One pass over the clips."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all threads."""
    peak: int
    """Bytes that the process has had at most."""
    tokens: int = 0
    resident: int = 0
    """Bytes that it has afterwards."""


class Worker:
    """A system in a process; a context manager.

    Arguments:
        command: reads a line for every pass and answers with the fields of `Run`.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self) -> Run:
        """Have the clips recognised once."""
        assert self._process.stdin and self._process.stdout
        print("go", file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a system failed (its message is above)")
        return Run(**json.loads(line))


def ours(folder: Path, clips: Path, threads: int, beam: int, compute_type: str) -> Callable[[], int]:
    """This project, from samples to texts, with memory set up as `fun_asr.load_model` does."""
    from fun_asr.memory import set_up_memory

    set_up_memory()
    from evidence import segments_of

    from fun_asr.models.registry import load_recogniser
    from fun_asr.options import ModelOptions, TranscriptionOptions

    recogniser = load_recogniser(
        ModelOptions(directory=folder, device="cpu", compute_type=compute_type, threads=threads)
    )
    options = TranscriptionOptions(language="en", beam_size=beam, word_times=False, itn=False, punctuation=False)
    recogniser.prepare(options)
    segments = segments_of(list(np.load(clips).values()))

    def run() -> int:
        for start in range(0, len(segments), BATCH):
            part = segments[start : start + BATCH]
            recogniser.recognise(part, ["en"] * len(part), options)
        return 0

    return run


def transformers(folder: Path, clips: Path, threads: int, batch: int, compute_type: str) -> Callable[[], int]:
    """The transformers package: features, model, best token of each frame; clips of like lengths together."""
    import torch
    from transformers import AutoConfig, GraniteSpeech5ForCTC, ParakeetFeatureExtractor, ParakeetForCTC
    from transformers.models.granite_speech5.feature_extraction_granite_speech5 import GraniteSpeech5FeatureExtractor

    torch.set_num_threads(threads)
    dtype = getattr(torch, compute_type)
    config: Any = AutoConfig.from_pretrained(folder)
    granite = config.model_type.startswith("granite")
    kind: Any = GraniteSpeech5ForCTC if granite else ParakeetForCTC
    model = kind.from_pretrained(folder, dtype=dtype).eval()
    make: Any = GraniteSpeech5FeatureExtractor if granite else ParakeetFeatureExtractor
    extractor = make() if granite else make(feature_size=80)
    waves = sorted(np.load(clips).values(), key=len)

    @torch.inference_mode()
    def run() -> int:
        for start in range(0, len(waves), batch):
            inputs = extractor(waves[start : start + batch], sampling_rate=16000, return_tensors="pt")
            inputs = {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.items()}
            model(**inputs).logits.argmax(dim=-1).tolist()
        return 0

    return run


def main(system: str, folder: str, clips: str, threads: str, number: str, compute_type: str) -> None:
    """Answer every line of standard input with what a pass over the clips took."""
    load = {"ours": ours, "transformers": transformers}[system]
    answer(lambda: load(Path(folder), Path(clips), int(threads), int(number), compute_type))


def answer(load: Callable[[], Callable[[], int]]) -> None:
    """Load a system, and answer every line of standard input with what a pass of it took.

    Arguments:
        load: returns what makes a pass and says how many tokens were written.
    """
    with _quiet():
        run = load()
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        with _quiet():
            tokens = run()
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "tokens": tokens}
        spent |= {"peak": _memory("VmHWM"), "resident": _memory("VmRSS")}
        print(json.dumps(spent), flush=True)


def _memory(field: str) -> int:
    """Bytes; getrusage's number begins with what the process that started this one had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a library prints is no answer."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


if __name__ == "__main__":
    main(*sys.argv[1:])
