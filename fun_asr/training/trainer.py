"""The training loop: batches of a family's model, checkpoints, exact resume, averaging, on one process or several."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fun_asr.audio.decode import decode
from fun_asr.errors import ConfigError, ManifestError
from fun_asr.training.acoustics import Wave
from fun_asr.training.check import check_manifest
from fun_asr.training.checkpoints import (
    MODEL_FILE,
    RunFolder,
    checkpoints,
    damage_named,
    load_weights,
    read_tensors,
    restore,
    say,
)
from fun_asr.training.config import OptimizerConfig, Source, TrainConfig
from fun_asr.training.data import Utterance, plan_epoch, read_manifest
from fun_asr.training.evaluation import evaluate
from fun_asr.training.journal import RunJournal, draw_curves
from fun_asr.training.loader import Loader, Planned
from fun_asr.training.processes import Processes
from fun_asr.training.trainees.load import load_trainee
from fun_asr.training.trainees.protocol import Trainee, Verdict
from fun_asr.weights.precision import bfloat16_is_fast

ADAPTER_DIR = "adapter"
LEFT_OUT_FILE = "left-out.tsv"
LOG_STEPS = 10


class Trainer:
    """Trains the model of a config and writes a model directory `final` into its output folder.

    Arguments:
        config: what to train, on what and how long.
        base: folder that the config's relative paths are relative to.
        processes: that train together; None for this one alone, on a GPU where there is one.

    Raises:
        CheckpointError, ManifestError, ConfigError: when an input is missing, damaged or cannot be trained on.
    """

    def __init__(self, config: TrainConfig, base: Path, processes: Processes | None = None) -> None:
        self.config = config
        self.processes = processes or Processes(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.device = self.processes.device
        if config.accumulate % self.processes.count:
            raise ConfigError(
                f"accumulate: {config.accumulate} batches a step cannot be shared out among {self.processes.count} "
                "processes; make it a multiple of them"
            )
        if config.ctc_replay and self.processes.count > 1:
            raise ConfigError("ctc_replay: needs a single process")
        self._base, self.output = base, base / config.output_dir
        self.folder = _run_folder(config, base)
        if config.threads:
            torch.set_num_threads(config.threads)
        noises = _read_waves(base / config.noise_dir) if config.noise_dir else []
        rooms = _read_waves(base / config.room_dir) if config.room_dir else []
        self.trainee: Trainee = load_trainee(base / config.init, config)
        self._left_out: list[tuple[Utterance, str]] = []
        self.sources = [(self._checked(base, source), source.weight) for source in config.train]
        self.dev: dict[str, list[Utterance]] = {}
        for dev in config.dev:
            path = base / dev.manifest
            rows = self._looked_through(path, _spread(read_manifest(path), dev.utterances), self._judge_dev)
            self.dev[path.stem] = rows
        self.taught = any(u.teaching is not None for utterances, _ in self.sources for u in utterances)
        self.trainee.expect(taught=self.taught)
        self.collate_dev = self.trainee.reader()
        self.collate_dev.on_left_out = self._say_left_out
        self.collate = self.collate_dev.augmented(config.augment, noises, rooms)
        self._said: set[Path] = set()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(tuple(config.freeze)) if config.freeze else True)
        if config.lora.rank:
            layers = self.trainee.adapt(config.lora, config.seed)
            self._say(f"LoRA of rank {config.lora.rank}: {layers} layers are adapted")
            for name, parameter in self.model.named_parameters():
                if config.freeze and name.startswith(tuple(config.freeze)):
                    parameter.requires_grad_(False)
        self.trainee.to(self.device)
        self.frozen = [name for name, p in self.model.named_parameters() if not p.requires_grad]
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        if not self.trained:
            raise ConfigError("freeze: nothing is left to train")
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.trainee, config.optimizer), fused=True)
        automatic = config.precision == "auto" and bfloat16_is_fast(self.device)
        self.autocast = config.precision == "bfloat16" or automatic
        self.step = self.epoch = self.position = 0
        self.seconds = 0.0

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.trainee.network

    def run(self) -> Path:
        """Train to the last step, resuming from the newest checkpoint if there is one; returns the model directory."""
        final = finished_model(self.config, self._base)
        if final is not None:
            return final
        if self.processes.first:
            self.folder.begin()
            self._write_left_out()
        self._resume()
        with contextlib.closing(RunJournal(self.output)) if self.processes.first else contextlib.nullcontext() as log:
            self._journal = log
            if self.step < self.config.steps:
                self._train()
            return self.finish()

    _journal: RunJournal | None = None

    def _train(self) -> None:
        self.trainee.start()
        began = time.monotonic()
        seconds_before = self.seconds
        recent: list[dict[str, float]] = []
        for batches in self._groups():
            self._set_learning_rates()
            losses = self.train_step(batches)
            if losses is None:
                continue
            recent.append(losses)
            self.step += 1
            if self.step % LOG_STEPS == 0 or self.step >= self.config.steps:
                self._log(recent, (self.seconds - seconds_before) / (time.monotonic() - began))
                recent = []
            last = self.step >= self.config.steps
            # The clocks of several processes differ: the first one's counts.
            if last or any(self.processes.gathered([self.processes.first and self.folder.due()])):
                self.save_checkpoint()
                if not last:  # the average is measured at once
                    self._measure()
            if last:
                return

    def _plan(self) -> Iterator[Planned]:
        """Batches from where the run is, without end; those of other processes are skipped."""
        epoch, position, number = self.epoch, self.position, 0
        while True:
            plan = self.epoch_plan(epoch)
            for index in range(position, len(plan)):
                mine = number % self.processes.count == self.processes.rank
                yield Planned(epoch, index, len(plan), plan[index], skipped=not mine)
                number += 1
            epoch, position = epoch + 1, 0

    def epoch_plan(self, epoch: int) -> list[list[Utterance]]:
        """The batches of an epoch, of all processes."""
        return plan_epoch(
            self.sources,
            self.config.batch_seconds,
            self.config.seed,
            epoch,
            self.config.joined,
            self.trainee.window_seconds,
        )

    def _groups(self) -> Iterator[list[Any]]:
        """This process's batches of one step after another.

        Raises:
            ManifestError: when a whole epoch has nothing to train on.
        """
        group: list[Any] = []
        count, empty = 0, 0
        threads = self.config.loader_threads
        loader = Loader(self._plan(), self.collate, seed=self.config.seed, threads=threads)
        with contextlib.closing(loader.batches()) as made:
            for planned, batch in made:
                count += 1
                if batch is not None:
                    group.append(batch)
                    empty = 0
                elif not planned.skipped:
                    empty += 1
                    if empty * self.processes.count >= planned.of:
                        raise ManifestError(
                            f"{self.config.train[0].manifest}: nothing could be decoded in a whole epoch"
                        )
                if count == self.config.accumulate:
                    # The next step begins after this batch, in this epoch or in the next one.
                    self.epoch, self.position = planned.epoch, planned.index + 1
                    yield group
                    group, count = [], 0

    def train_step(self, batches: Sequence[Any]) -> dict[str, float] | None:
        """One update by the batches of all processes; their mean losses, None when there was no batch."""
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for batch in batches:
            with self._autocast():
                losses = self.trainee.losses(batch.to(self.device))
            if losses.total.requires_grad:
                losses.total.backward()
            for name, loss in losses.shown.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach())
        means, count = self.processes.mean_losses(sums, len(batches))
        if not count:
            return None
        self.seconds += sum(self.processes.gathered([sum(batch.seconds for batch in batches)]))
        self._update(count)
        self.trainee.balance(self.processes.sum)
        losses_after = self.trainee.after_update(self.step)
        while True:
            with self._autocast():
                after = next(losses_after, None)
            if after is None:
                return means
            self.optimizer.zero_grad(set_to_none=True)
            after.backward()
            self._update(1)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)

    def _update(self, batches: int) -> None:
        """One optimizer step by the gradients of so many batches; parameters that no loss reached stay."""
        self.processes.average_gradients(self.trained, batches)
        reached = [parameter for parameter in self.trained if parameter.grad is not None]
        if not reached:  # nothing in the batches trains a parameter
            return
        norm = torch.nn.utils.clip_grad_norm_(reached, self.config.optimizer.clip_norm)
        if bool(norm.isfinite()):
            self.optimizer.step()

    def _set_learning_rates(self) -> None:
        optimizer = self.config.optimizer
        progress = min(1.0, self.step / self.config.steps)
        decay = optimizer.final_ratio + (1 - optimizer.final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
        factor = decay * min(1.0, (self.step + 1) / max(1, optimizer.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def _log(self, recent: Sequence[dict[str, float]], rate: float) -> None:
        if self._journal is None:
            return
        names = dict.fromkeys(name for losses in recent for name in losses)
        means = {name: sum(losses.get(name, 0.0) for losses in recent) / len(recent) for name in names}
        learning_rate = self.optimizer.param_groups[0]["lr"]
        row = {
            "step": self.step,
            "epoch": self.epoch,
            **{name: round(mean, 4) for name, mean in means.items()},
            "learning_rate": f"{learning_rate:.3g}",
            "hours": round(self.seconds / 3600, 3),
            "hours_per_hour": round(rate, 1),
        }
        self._journal.log(self.step, row, {**means, "learning_rate": learning_rate, "hours_per_hour": rate})
        shown = "  ".join(f"{name.removesuffix('_loss')} {mean:.3f}" for name, mean in means.items())
        say(
            f"step {self.step}/{self.config.steps}  {shown}  lr {learning_rate:.2e}  "
            f"{self.seconds / 3600:.2f} h seen, {rate:.1f} audio h/h"
        )

    def _measure(self) -> None:
        if not self.dev:
            return
        self.model.eval()
        for name, utterances in self.dev.items():
            rates = evaluate(self.trainee.recognise, utterances, self.collate_dev, self.processes)
            if self._journal is not None:
                self._journal.score(self.step, name, rates)
                shown = "  ".join(f"{kind.upper().replace('_', ' ')} {rate:.2f} %" for kind, rate in rates.items())
                say(f"step {self.step}  dev {name}: {shown}")
        self.trainee.start()

    def save_checkpoint(self) -> None:
        """Write the state of the run; the folder appears whole or not at all, older ones keep only their weights."""
        state = {
            "init": self.config.init,
            "lora": self.config.lora.rank,
            "step": self.step,
            "epoch": self.epoch,
            "position": self.position,
            "seconds": self.seconds,
        }
        if self.processes.first:
            self.folder.save(self.step, self.model, self.optimizer, state, self.trainee.state(), self.frozen)
        self.processes.wait()

    def _resume(self) -> None:
        newest = self.folder.newest()
        if newest is None:
            return
        path, state = newest
        _refuse_another(self.folder, self.config)
        restore(path, self.model, self.optimizer, self.frozen)
        with damage_named(path):
            self.trainee.load_state(lambda file: read_tensors(path, file))
            self.step, self.epoch, self.position = state["step"], state["epoch"], state["position"]
            self.seconds = state["seconds"]
        self._say(f"resuming {path} at step {self.step}")

    def finish(self) -> Path:
        """Average the kept checkpoints, measure and write them as a float32 model directory `final`.

        With LoRA, `adapter` beside it holds what was trained alone.
        """
        kept = checkpoints(self.output)
        total: dict[str, Tensor] = {}
        for path in kept:
            for name, tensor in read_tensors(path, MODEL_FILE).items():
                total[name] = total[name] + tensor if name in total else tensor.clone()
        load_weights(self.model, {name: (t / len(kept)).to(t.dtype) for name, t in total.items()}, self.frozen)
        self._say(f"averaged {len(kept)} checkpoints")
        self._measure()
        if self.processes.first:
            if self.config.lora.rank:
                self.trainee.save_adapter(self.output / ADAPTER_DIR, self.config.init)
            self.trainee.save(self.folder.final)
            draw_curves(self.output)
        self.processes.wait()
        return self.folder.final

    # Manifests

    def _checked(self, base: Path, source: Source) -> list[Utterance]:
        path = base / source.manifest
        utterances = read_manifest(path)
        if source.targets != "both":
            trains_ctc = source.targets == "ctc"
            utterances = [dataclasses.replace(u, trains_decoder=False, trains_ctc=trains_ctc) for u in utterances]
        return self._looked_through(path, utterances, self.trainee.judge)

    def _judge_dev(self, utterance: Utterance) -> Verdict:
        """Dev sets keep texts that could not be trained on: their error rates would be too good without them."""
        known = self.trainee.knows(utterance.language)
        return Verdict(utterance, "" if known else f"the model has no language {utterance.language}")

    def _looked_through(self, path: Path, utterances: Sequence[Utterance], judge: Any) -> list[Utterance]:
        checked = check_manifest(path, utterances, judge, self.trainee.longest_seconds, self.processes)
        self._say(checked.table())
        checked.refuse_most(self.config.most_left_out)
        self._left_out += checked.left_out
        return checked.kept

    def _write_left_out(self) -> None:
        rows = [f"{u.place}\t{u.audio_filepath}\t{why}" for u, why in self._left_out]
        path = self.output / LEFT_OUT_FILE
        if rows:
            path.write_text("\n".join(["manifest\taudio\twhy", *rows]) + "\n", encoding="utf-8")
        else:
            path.unlink(missing_ok=True)

    def _say_left_out(self, utterance: Utterance, why: str) -> None:
        """Of what turns out to be unreadable only when it is decoded."""
        if utterance.audio_filepath not in self._said:
            self._said.add(utterance.audio_filepath)
            say(f"left out: {utterance.place or utterance.audio_filepath}: {why}")

    def _say(self, message: str) -> None:
        if self.processes.first:
            say(message)


def finished_model(config: TrainConfig, base: Path) -> Path | None:
    """The model directory of a run that has come to its end; None where there is something left to do.

    Raises:
        CheckpointError: when its newest checkpoint is damaged.
        ConfigError: when the folder holds another run.
    """
    folder = _run_folder(config, base)
    if not folder.finished(config.steps):
        return None
    _refuse_another(folder, config)
    say(f"{folder.final}: finished, nothing to do; raise steps to go on, or name another output_dir")
    return folder.final


def _run_folder(config: TrainConfig, base: Path) -> RunFolder:
    return RunFolder(base / config.output_dir, kept=config.average, minutes=config.checkpoint_minutes)


def _refuse_another(folder: RunFolder, config: TrainConfig) -> None:
    """Refuse to go on with a run of another model."""
    newest = folder.newest()
    if newest is None:
        return
    for key, wanted in (("init", config.init), ("lora", config.lora.rank)):
        found = newest[1].get(key, wanted)
        if found != wanted:
            what = "started from" if key == "init" else "had the LoRA rank"
            raise ConfigError(
                f"{folder.output}: holds a run that {what} {found}, not {wanted}; name another output_dir"
            )


def _parameter_groups(trainee: Trainee, config: OptimizerConfig) -> list[dict[str, object]]:
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in trainee.network.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((trainee.peak(name, config), decay), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: item[0])
    return [{"params": p, "lr": peak, "peak": peak, "weight_decay": decay} for (peak, decay), p in ordered]


def _spread(utterances: list[Utterance], count: int) -> list[Utterance]:
    if not count or count >= len(utterances):
        return utterances
    return [utterances[i * len(utterances) // count] for i in range(count)]


def _read_waves(folder: Path) -> list[Wave]:
    """The recordings of a folder of noises or rooms.

    Raises:
        ConfigError: when there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".wav", ".flac", ".opus", ".ogg", ".mp3"})
    if not paths:
        raise ConfigError(f"{folder}: no recordings (.wav, .flac, .opus, .ogg, .mp3)")
    return [decode(path) for path in paths]
