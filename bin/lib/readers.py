"""Every reader of files that others wrote, with whole files to damage."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch
from mutants import Reader
from safetensors.torch import save

from fun_asr.audio.decode import probe, stream
from fun_asr.batch.journal import Journal
from fun_asr.configuration import load_yaml
from fun_asr.inputs.discover import Search
from fun_asr.inputs.manifest import read_rows
from fun_asr.inputs.sources import find_sources
from fun_asr.models.fun_asr.config import ModelConfig
from fun_asr.models.fun_asr.load import load_config
from fun_asr.scoring.reading import read_pair
from fun_asr.text.hotwords import read_hotwords
from fun_asr.training.config import TrainConfig
from fun_asr.weights.directory import load_stored

__all__ = ["readers"]

RATE = 16_000
MANIFEST = b"".join(
    json.dumps({"audio_filepath": f"a/{n}.wav", "duration": 1.5, "text": "two words", "language": "de"}).encode()
    + b"\n"
    for n in range(4)
)
SCORED = {
    "srt": b"1\n00:00:01,000 --> 00:00:02,500\n<i>one</i>\ntwo\n\n2\n00:00:02,500 --> 00:00:03,000\n{\\an8}three\n\n",
    "vtt": b"WEBVTT\n\nNOTE x\n\n00:01.000 --> 00:02.500 line:0\n<v Ada>one &amp; <00:01.500><u>two</u>\n",
    "csv": b'id,text,duration\na-1,"two words, quoted",1.5\na-2,three more words,2\n',
    "tsv": b"path\tsentence\tlocale\na/1.wav\ttwo words\ten\na/2.wav\tthree more words\ten\n",
    "json": json.dumps([{"id": "a-1", "text": "two words", "segments": [{"score": -0.1, "words": []}]}]).encode(),
    "jsonl": MANIFEST,
    "trn": b"two {words / word} (a-1)\nthree more (um) words (a-2)\n;; a comment\n",
    "ctm": b"a 1 0.10 0.25 two 0.9\na 1 0.40 0.30 words 0.8\nb A 1.5 .2 more\n",
    "stm": b"a 1 anna 0.0 2.5 <o,f0,female> two words\na 1 ben 2.5 5 <o> ignore_time_segment_in_scoring\n",
    "kaldi": b"a-1 two words\na-2 three more words\n",
    "text": b"two words\nthree more words\n",
}
YAML = (
    b"init: model\noutput_dir: out\nsteps: 10\ntrain:\n  - manifest: a.jsonl\n    weight: 2.5\n"
    b"optimizer:\n  learning_rate: 3e-4\naugment: {}\n"
)
SIZES = (
    b"encoder:\n  dim: 64\n  num_layers: 2\n  num_heads: 4\ndecoder: {dim: 64, num_heads: 4}\nctc:\n  languages: [en]\n"
)


def readers(repository: Path) -> Iterator[Reader]:
    """All of them; the sound in `tests/data` of the repository is damaged too."""
    yield Reader("manifest", "list.jsonl", [MANIFEST], _source)
    yield Reader("wav.scp", "wav.scp", [b"a-1 a/1.wav\na-2 /b/2.wav\nc cat x |\n"], _source)
    yield Reader("Kaldi's segments", "segments", [b"u-1 a-1 0.5 2.25\nu-2 a-1 3 -1\n"], _data_dir)
    yield Reader("list on standard input", "stdin", [b"a.wav\nb/c.wav\n", b"a.wav\0b.wav\0", MANIFEST], _standard_input)
    for name, content in SCORED.items():
        yield Reader(f"scored {name}", f"x.{name}", [content], _scored(name))
    yield Reader("hotwords", "hotwords.txt", ["Quillan\t2.5\n# names\nAda Lovelace\nMüller\n".encode()], read_hotwords)
    yield Reader("training config", "train.yaml", [YAML], lambda path: load_yaml(TrainConfig, path))
    yield Reader("model config", "model.yaml", [SIZES], lambda path: load_yaml(ModelConfig, path))
    yield Reader("model directory's config", "config.json", [_config()], lambda path: load_config(path.parent))
    tensors = save({"a.weight": torch.ones(4, 3, dtype=torch.int8), "a.weight.scale": torch.ones(4)})
    yield Reader("model directory's tensors", "model-00001-of-00001.safetensors", [tensors], _stored)
    yield Reader("journal", ".fun-asr-journal", [_journal()], _read_journal)
    for name in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF"):
        yield Reader(name, f"x.{name.lower()}", [_by_soundfile(name)], _listen)
    for name in ("matroska", "mp4", "adts"):
        yield Reader(name, f"x.{name}", [_by_pyav(name)], _listen)
    yield Reader("Opus", "x.opus", [(repository / "tests" / "data" / "cv-00001.opus").read_bytes()], _listen)


def _source(path: Path) -> None:
    sources = find_sources([str(path)], Search(recursive=False), io.BytesIO())
    assert sources.recordings or sources.failures
    assert not any("\n" in str(failure) for failure in sources.failures)


def _data_dir(path: Path) -> None:
    (path.parent / "wav.scp").write_text("a-1 a/1.wav\n")
    rows, errors = read_rows(path.parent)
    assert rows or errors or not path.read_bytes().strip()
    assert not any("\n" in str(error) for error in errors)


def _standard_input(path: Path) -> None:
    # Not recursive: a damaged path may be that of the whole disk.
    sources = find_sources(["-"], Search(recursive=False), io.BytesIO(path.read_bytes()))
    assert sources.recordings or sources.failures


def _scored(form: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        read_pair(path, path, reference_format=form, hypothesis_format=form, empty=True)

    return read


def _config() -> bytes:
    return json.dumps(
        {"encoder": {"dim": 64, "num_heads": 4}, "decoder": {"dim": 64}, "ctc": {"languages": ["en"]}}
    ).encode()


def _stored(path: Path) -> None:
    load_stored(path.parent)


def _journal() -> bytes:
    lines = [
        {"event": "begin", "files": [["/in/a.wav", 10, 1, "c", "a"]]},
        {"event": "done", "file": ["/in/a.wav", 10, 1, "c", "a"], "outputs": {"txt": 5}, "seconds": 1.5},
        {"event": "failed", "file": ["/in/a.wav", 10, 1, "c", "a"], "cause": "is bad"},
    ]
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def _read_journal(path: Path) -> None:
    with Journal(path):
        pass


def _sound() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return (0.1 * np.sin(np.arange(RATE // 2) / 5)).astype(np.float32)


def _by_soundfile(name: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, _sound(), RATE, format=name)
    return file.getvalue()


def _by_pyav(name: str) -> bytes:
    file = io.BytesIO()
    codec: Any = {"matroska": "flac", "mp4": "aac", "adts": "aac"}[name]
    with av.open(file, "w", format=name) as container:
        audio = container.add_stream(codec, rate=RATE, layout="mono")
        form = "s16" if codec == "flac" else "fltp"
        values = _sound()[None]
        for at in range(0, values.shape[1] - 1023, 1024):
            block = values[:, at : at + 1024]
            frame = av.AudioFrame.from_ndarray(
                (block * 32767).astype(np.int16) if form == "s16" else block, form, "mono"
            )
            frame.sample_rate, frame.pts = RATE, at
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return file.getvalue()


def _listen(path: Path) -> None:
    probe(path)
    for _ in stream(path, 30.0):
        pass
