"""How a run is started and what it leaves: changed values, a trial, logs, curves, several processes, accumulation."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from fun_asr.cli import main
from fun_asr.configuration import load_yaml
from fun_asr.errors import ConfigError
from fun_asr.training.config import TrainConfig
from fun_asr.training.processes import Processes
from fun_asr.training.trainer import Trainer
from fun_asr.weights.directory import load_stored
from tests.training.runs import make_corpus, train, write_config

ROOT = Path(__file__).parents[2]
STILL = {"noise_probability": 0.0, "speeds": [1.0]}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path)


def test_values_are_changed_on_the_command_line(corpus: Path, tiny_model_dir: Path) -> None:
    path = write_config(corpus, tiny_model_dir)
    changes = ["training.steps=100", "optimizer.learning_rate=3e-4", "train.0.weight=2", "freeze=[encoder.]"]
    config = load_yaml(TrainConfig, path, [*changes, "augment.speeds=[1.0, 1.1]"])
    assert (config.steps, config.optimizer.learning_rate, config.train[0].weight) == (100, 3e-4, 2.0)
    assert (config.freeze, config.augment.speeds) == (("encoder.",), (1.0, 1.1))
    for wrong, message in (
        ("steps", "expected KEY=VALUE"),
        ("stepps=3", "unknown key 'stepps'"),
        ("train.1.weight=2", "train has no entry 1"),
        ("steps.deep=2", "steps has no parts"),
        ("steps=[", "no valid YAML"),
        ("steps=many", "expected int"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_yaml(TrainConfig, path, [wrong])


def test_a_dry_run_says_what_the_run_takes_and_writes_nothing(corpus: Path, tiny_model_dir: Path) -> None:
    path = write_config(corpus, tiny_model_dir, steps=3600)
    result = CliRunner().invoke(main, ["train", str(path), "--dry_run"])
    assert result.exit_code == 0, result.output
    lines = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert set(lines) == {"parameters", "an epoch", "largest batch", "memory", "a step", "the run"}
    assert "loss: decoder" in lines["largest batch"]
    assert 0.1 < float(lines["memory"].split()[0]) < 64
    seconds = float(lines["a step"].split()[0])
    hours, minutes = (int(lines["the run"].split()[place]) for place in (0, 2))
    assert 60 * hours + minutes == pytest.approx(60 * seconds, abs=1), "3600 steps are as many hours as a step seconds"
    assert not (corpus / "run").exists()


def test_a_run_leaves_logs_for_tensorboard_and_curves(corpus: Path, tiny_model_dir: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(write_config(corpus, tiny_model_dir, steps=12, dev=[{"manifest": "train.jsonl"}]))
    events = EventAccumulator(str(corpus / "run" / "tensorboard")).Reload()
    with (corpus / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = [(event.step, event.value) for event in events.Scalars("train/decoder_loss")]
    assert [step for step, _ in logged] == [int(row["step"]) for row in rows] == [10, 12]
    assert [value for _, value in logged] == pytest.approx([float(row["decoder_loss"]) for row in rows], abs=1e-3)
    with (corpus / "run" / "dev.csv").open() as file:
        (dev,) = csv.DictReader(file)
    assert events.Scalars("dev/train/wer")[0].value == pytest.approx(float(dev["wer"]), abs=0.01)
    assert (corpus / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_does_without_tensorboard_and_matplotlib(
    corpus: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch.utils.tensorboard", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    train(write_config(corpus, tiny_model_dir, steps=1))
    assert {path.name for path in (corpus / "run").iterdir()} == {"final", "log.csv", "checkpoint-0000001"}


def test_accumulated_gradients_are_means_over_the_batches(corpus: Path, tiny_model_dir: Path) -> None:
    path = write_config(corpus, tiny_model_dir, accumulate=2, augment=STILL, precision="float32")
    config = load_yaml(TrainConfig, path)
    trainer, single = Trainer(config, corpus), Trainer(config, corpus)
    batches = next(iter(trainer._groups()))
    assert len(batches) == 2
    losses = trainer.train_step(batches)
    gradients = []
    for batch in batches:
        single.optimizer.zero_grad()
        single.trainee.losses(batch).total.backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in single.trained])
    mean = [(a + b) / 2 for a, b in zip(*gradients, strict=True) if a is not None and b is not None]
    found = [p.grad for p in trainer.trained if p.grad is not None]
    norm = float(torch.sqrt(sum((g**2).sum() for g in mean)))
    scale = min(1.0, config.optimizer.clip_norm / (norm + 1e-6))
    for expected, gradient in zip(mean, found, strict=True):
        torch.testing.assert_close(gradient, expected * scale, atol=1e-6, rtol=1e-4)
    assert losses is not None and set(losses) == {"decoder_loss", "ctc_loss"}


def test_batches_that_cannot_be_shared_out_are_refused(corpus: Path, tiny_model_dir: Path) -> None:
    config = load_yaml(TrainConfig, write_config(corpus, tiny_model_dir, accumulate=3))
    with pytest.raises(ConfigError, match="3 batches a step cannot be shared out among 2 processes"):
        Trainer(config, corpus, Processes(rank=0, count=2))


@pytest.mark.slow
def test_two_processes_train_as_one_does(corpus: Path, tiny_model_dir: Path) -> None:
    changes = {"steps": 6, "accumulate": 2, "precision": "float32", "checkpoint_minutes": 0.0, "average": 1}
    dev = [{"manifest": "train.jsonl"}]
    one = train(write_config(corpus, tiny_model_dir, output_dir="one", dev=dev, **changes))
    path = write_config(corpus, tiny_model_dir, output_dir="two", dev=dev, **changes)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [*command, "-m", "fun_asr", "train", str(path)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(corpus / "two" / "final")], "the first process alone prints"
    expected, got = load_stored(one), load_stored(corpus / "two" / "final")
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=1e-5, rtol=1e-4)

    def rows(run: str, file: str, names: list[str]) -> list[list[float]]:
        with (corpus / run / file).open() as lines:
            return [[float(row[name]) for name in names] for row in csv.DictReader(lines)]

    for file, names in (("log.csv", ["decoder_loss", "ctc_loss", "hours"]), ("dev.csv", ["step", "wer", "ctc_wer"])):
        for a, b in zip(rows("one", file, names), rows("two", file, names), strict=True):
            assert a == pytest.approx(b, abs=2e-3)
