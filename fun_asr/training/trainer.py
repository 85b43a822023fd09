"""The training loop: joint loss, checkpoints, exact resume, averaging."""

from __future__ import annotations

import csv
import dataclasses
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fun_asr.audio.decode import decode
from fun_asr.convert.whisper import NEW_MODULES
from fun_asr.errors import ConfigError
from fun_asr.models.fun_asr.load import build_model, load_config
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.training.acoustics import Wave
from fun_asr.training.checkpoints import (
    MODEL_FILE,
    OPTIMIZER_FILE,
    checkpoints,
    damage_named,
    read_state,
    read_tensors,
    restore,
    write_checkpoint,
)
from fun_asr.training.config import FEWEST_KEPT_PER_REPLAY, OptimizerConfig, Source, TrainConfig
from fun_asr.training.data import Batch, Collator, Loader, Utterance, plan_epoch, read_manifest
from fun_asr.training.evaluation import evaluate
from fun_asr.training.losses import joint_loss
from fun_asr.training.replay import EncodedReplay
from fun_asr.weights.directory import CTC_TOKENIZER_FILE, TOKENIZER_FILE, companion_files, load_stored, save_model
from fun_asr.weights.int8 import dequantize
from fun_asr.weights.precision import bfloat16_is_fast

REPLAY_FILE = "replay.safetensors"


class Trainer:
    """Trains the model of a config and writes a model directory `final` into its output folder.

    Arguments:
        config: what to train, on what and how long.
        base: folder that the config's relative paths are relative to.

    Raises:
        CheckpointError, ManifestError, ConfigError: when an input is missing or damaged.
    """

    def __init__(self, config: TrainConfig, base: Path) -> None:
        self.config = config
        self.output = base / config.output_dir
        init = base / config.init
        if config.threads:
            torch.set_num_threads(config.threads)
        self.companion_files = companion_files(init)
        self.tokenizer = Tokenizer(init / TOKENIZER_FILE)
        self.ctc_tokenizer = CTCTokenizer(init / CTC_TOKENIZER_FILE)
        self.model = build_model(load_config(init), dequantize(load_stored(init)), str(init))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)
        self.sources = [(_read_source(base, source), source.weight) for source in config.train]
        self.taught = any(u.teaching is not None for utterances, _ in self.sources for u in utterances)
        self.dev = {Path(d.manifest).stem: _spread(read_manifest(base / d.manifest), d.utterances) for d in config.dev}
        noises = _read_waves(base / config.noise_dir) if config.noise_dir else []
        rooms = _read_waves(base / config.room_dir) if config.room_dir else []
        encoder = self.model.config.encoder
        self.collate_dev = Collator(
            self.tokenizer,
            self.ctc_tokenizer,
            n_mels=encoder.n_mels,
            max_tokens=self.model.config.decoder.max_tokens,
            train_language=config.train_language,
            views=2 if config.ctc_consistency_weight else 1,
        )
        self.collate = self.collate_dev.augmented(config.augment, noises, rooms)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(tuple(config.freeze)) if config.freeze else True)
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.model, config.optimizer), fused=True)
        automatic = config.precision == "auto" and bfloat16_is_fast(self.device)
        self.autocast = config.precision == "bfloat16" or automatic
        self.replay = EncodedReplay(config.ctc_replay_batches, config.ctc_replay_dropout)
        self.step = self.epoch = self.position = 0
        self.seconds = 0.0

    def run(self) -> Path:
        """Train to the last step, resuming from the newest checkpoint if there is one; returns the model directory."""
        self.output.mkdir(parents=True, exist_ok=True)
        self._resume()
        self.model.train()
        began = saved = time.monotonic()
        seconds_before = self.seconds
        recent: list[dict[str, float]] = []
        for batch in self._batches():
            self._set_learning_rates()
            losses = self._train_step(batch)
            recent.append(losses)
            self.step += 1
            self.seconds += batch.seconds
            if self.step % 10 == 0:
                rate = (self.seconds - seconds_before) / (time.monotonic() - began)
                self._log(recent, rate)
                recent = []
            last = self.step >= self.config.steps
            if last or time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                self.save_checkpoint()
                self._measure()
                saved = time.monotonic()
            if last:
                break
        return self.finish()

    def _batches(self) -> Iterator[Batch]:
        while True:
            seed = self.config.seed
            plan = plan_epoch(self.sources, self.config.batch_seconds, seed, self.epoch, self.config.joined)
            threads = self.config.loader_threads
            loader = Loader(plan, self.collate, seed=seed, epoch=self.epoch, start=self.position, threads=threads)
            for index, batch in loader:
                self.position = index + 1
                yield batch
            self.epoch, self.position = self.epoch + 1, 0

    def _train_step(self, batch: Batch) -> dict[str, float]:
        batch = batch.to(self.device)
        with self._autocast():
            losses = joint_loss(
                self.model,
                batch,
                ctc_weight=self.config.ctc_weight,
                label_smoothing=self.config.label_smoothing,
                balance_weight=self.config.balance_loss_weight,
                z_weight=self.config.z_loss_weight,
                frames_weight=self.config.distil.frames_weight,
                tokens_weight=self.config.distil.tokens_weight,
                intermediate_weight=self.config.ctc_intermediate_weight,
                consistency_weight=self.config.ctc_consistency_weight,
            )
        self._update(losses.total)
        for router in self.model.decoder.routers():
            router.rebalance(self.config.balance_rate)
        if self.config.ctc_replay:
            self.replay.add(batch, losses)
            rng = np.random.default_rng([self.config.seed, 1, self.step])
            # The generator of the replay's dropout: a resumed run must draw what an uninterrupted one draws.
            torch.manual_seed(self.config.seed + self.step)
            for _ in range(min(self.config.ctc_replay, len(self.replay) // FEWEST_KEPT_PER_REPLAY)):
                with self._autocast():
                    loss = self.replay.loss(self.model.ctc, self.device, rng)
                self._update(loss)
        seen = {"decoder_loss": losses.decoder, "ctc_loss": losses.ctc}
        if self.taught:
            seen |= {"frames_loss": losses.frames, "tokens_loss": losses.tokens}
        return {name: float(loss.detach()) for name, loss in seen.items()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)

    def _update(self, loss: Tensor) -> None:
        """One optimizer step; parameters that the loss does not reach stay."""
        if not loss.requires_grad:  # nothing in this batch trains a parameter
            return
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.optimizer.clip_norm)
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
        means = {name: sum(losses[name] for losses in recent) / len(recent) for name in recent[0]}
        learning_rate = self.optimizer.param_groups[0]["lr"]
        row = {
            "step": self.step,
            "epoch": self.epoch,
            **{name: round(mean, 4) for name, mean in means.items()},
            "learning_rate": f"{learning_rate:.3g}",
            "hours": round(self.seconds / 3600, 3),
            "hours_per_hour": round(rate, 1),
        }
        _append_csv(self.output / "log.csv", row)
        shown = "  ".join(f"{name.removesuffix('_loss')} {mean:.3f}" for name, mean in means.items())
        line = (
            f"step {self.step}/{self.config.steps}  {shown}  lr {learning_rate:.2e}  "
            f"{self.seconds / 3600:.2f} h seen, {rate:.1f} audio h/h"
        )
        print(line, file=sys.stderr, flush=True)

    def _measure(self) -> None:
        if not self.dev:
            return
        self.model.eval()
        for name, utterances in self.dev.items():
            wer, ctc_wer = evaluate(
                self.model, utterances, self.collate_dev, self.tokenizer, self.ctc_tokenizer, self.device
            )
            row = {"step": self.step, "set": name, "wer": round(wer, 2), "ctc_wer": round(ctc_wer, 2)}
            _append_csv(self.output / "dev.csv", row)
            message = f"step {self.step}  dev {name}: WER {wer:.2f} %  CTC {ctc_wer:.2f} %"
            print(message, file=sys.stderr, flush=True)
        self.model.train()

    def save_checkpoint(self) -> None:
        """Write the state of the run; the folder appears whole or not at all, older ones keep only their weights."""
        state = {
            "init": self.config.init,
            "step": self.step,
            "epoch": self.epoch,
            "position": self.position,
            "seconds": self.seconds,
        }
        others = {REPLAY_FILE: self.replay.state_dict()}
        write_checkpoint(self.output, self.step, self.model, self.optimizer, state, others)
        kept = checkpoints(self.output)
        for old in kept[:-1]:
            (old / OPTIMIZER_FILE).unlink(missing_ok=True)
            (old / REPLAY_FILE).unlink(missing_ok=True)
        for old in kept[: -self.config.average]:
            shutil.rmtree(old)

    def _resume(self) -> None:
        kept = checkpoints(self.output)
        if not kept:
            return
        newest = kept[-1]
        state = read_state(newest)
        if state.get("init", self.config.init) != self.config.init:
            raise ConfigError(
                f"{self.output}: holds a run that started from {state['init']}, not from {self.config.init}; "
                "name another output_dir"
            )
        restore(newest, self.model, self.optimizer)
        replay = read_tensors(newest, REPLAY_FILE)
        with damage_named(newest):
            self.replay.load_state_dict(replay)
            self.step, self.epoch, self.position = state["step"], state["epoch"], state["position"]
            self.seconds = state["seconds"]
        print(f"resuming {newest} at step {self.step}", file=sys.stderr, flush=True)

    def finish(self) -> Path:
        """Average the kept checkpoints, measure and write them as a float32 model directory `final`."""
        kept = checkpoints(self.output)
        total: dict[str, Tensor] = {}
        for path in kept:
            for name, tensor in read_tensors(path, MODEL_FILE).items():
                total[name] = total[name] + tensor if name in total else tensor.clone()
        mean = {name: (t / len(kept)).to(t.dtype) for name, t in total.items()}
        self.model.load_state_dict(mean)
        print(f"averaged {len(kept)} checkpoints", file=sys.stderr, flush=True)
        self._measure()
        final = self.output / "final"
        save_model(final, self.model.config, self.model.state_dict(), self.companion_files, int8=False)
        return final


def _parameter_groups(model: torch.nn.Module, config: OptimizerConfig) -> list[dict[str, object]]:
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("ctc."):
            peak = config.ctc_learning_rate
        elif any(part in name for part in NEW_MODULES):
            peak = config.new_learning_rate
        else:
            peak = config.learning_rate
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((peak, decay), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: item[0])
    return [{"params": p, "lr": peak, "peak": peak, "weight_decay": decay} for (peak, decay), p in ordered]


def _read_source(base: Path, source: Source) -> list[Utterance]:
    utterances = read_manifest(base / source.manifest)
    if source.targets != "both":
        trains_ctc = source.targets == "ctc"
        utterances = [dataclasses.replace(u, trains_decoder=False, trains_ctc=trains_ctc) for u in utterances]
    return utterances


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


def _append_csv(path: Path, row: dict[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
