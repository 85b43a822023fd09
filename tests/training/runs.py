"""Training runs of a few tones: a corpus, its configs, and a run that is killed and goes on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from fun_asr.configuration import load_yaml
from fun_asr.training.config import TrainConfig
from fun_asr.training.trainer import Trainer

WORDS = ["one two", "three", "four five six", "seven", "eight nine", "ten"]


def make_corpus(folder: Path, languages: Sequence[str] = (), *, shortest: float = 0.6, mirrored: bool = True) -> Path:
    """Six tone "utterances" and `train.jsonl`; their formatted form is the spoken one backwards where `mirrored`."""
    rng = np.random.default_rng(0)
    lines = []
    for i, text in enumerate(WORDS):
        seconds = shortest + 0.2 * i
        time = np.arange(int(seconds * 16_000)) / 16_000
        wave = 0.2 * np.sin(2 * np.pi * (200 + 150 * i) * time) + 0.01 * rng.normal(size=len(time))
        soundfile.write(folder / f"{i}.wav", wave.astype(np.float32), 16_000)
        line = {"audio_filepath": f"{i}.wav", "duration": seconds, "text": text, "written": text}
        line |= {"written": text[::-1]} if mirrored else {}
        lines.append(line | ({"language": languages[i]} if languages else {}))
    write_manifest(folder / "train.jsonl", lines)
    return folder


def write_manifest(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def read_rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_config(folder: Path, model: Path, manifest: Path | str = "train.jsonl", **changes: object) -> Path:
    source = {"manifest": str(manifest), "targets": changes.pop("targets", "both")}
    values = {
        "init": str(model),
        "output_dir": "run",
        "train": [source],
        "steps": 6,
        "batch_seconds": 3.0,
        "average": 2,
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 2},
        **changes,
    }
    path = folder / f"{values['output_dir']}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def trainer_of(path: Path) -> Trainer:
    return Trainer(load_yaml(TrainConfig, path), path.parent)


def train(path: Path) -> Path:
    return trainer_of(path).run()


def whole_and_resumed(config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, at: int) -> tuple[Path, Path]:
    """The models of a run, and of the same run killed at a step and started again; `config` takes the output_dir."""

    class KilledError(Exception):
        pass

    whole, cut = train(config("whole")), config("cut")
    original = Trainer.save_checkpoint

    def killed(self: Trainer) -> None:
        if self.step == at:
            raise KilledError
        original(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "save_checkpoint", killed)
        with pytest.raises(KilledError):
            train(cut)
    return whole, train(cut)
