"""Training of the punctuation model on formatted text: windows, checkpoints, exact resume, scores.

Shapes: B rows, T pieces.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fun_asr.errors import ConfigError
from fun_asr.punctuation.network import (
    PunctuationNet,
    load_punctuation,
    save_punctuation,
)
from fun_asr.punctuation.punctuator import Punctuator
from fun_asr.punctuation.wordpiece import WordPieceTokenizer
from fun_asr.training.checkpoints import RunFolder, damage_named, restore, say
from fun_asr.training.punctuation.labels import TITLES, label_text
from fun_asr.training.punctuation.scores import best_bias, score
from fun_asr.training.punctuation.texts import Texts, TextSource
from fun_asr.training.punctuation.windows import IGNORED, WindowOptions, Windows
from fun_asr.weights.precision import bfloat16_is_fast

SCORES_FILE = "scores.json"


@dataclass(frozen=True, kw_only=True)
class PunctuationTrainConfig:
    """What to train the punctuation model on and how long."""

    texts: tuple[TextSource, ...]
    output_dir: str
    init: str
    """Punctuation model to start from, as `fun-asr convert bert` makes one."""
    exclude: tuple[str, ...] = ()
    """Manifests whose sentences (`text`) are left out of training."""
    windows: WindowOptions = field(default_factory=WindowOptions)
    steps: int = 2000
    case_weight: float = 0.3
    learning_rate: float = 2.5e-4
    warmup_steps: int = 60
    decay_steps: int = 600
    """Steps at the end in which the learning rate falls to zero; it is constant between warm-up and decay."""
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    checkpoint_minutes: float = 5.0
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.texts:
            raise ConfigError("texts: no text to train on")
        if min(self.steps, self.threads) < 1:
            raise ConfigError("steps and threads must be positive")


class PunctuationTrainer:
    """Trains the model of a config and writes a model directory `final` into its output folder.

    Arguments:
        config: what to train, on what and how long.
        base: folder that the config's relative paths are relative to.

    Raises:
        ManifestError, CheckpointError, ConfigError: when an input is missing or damaged.
    """

    def __init__(self, config: PunctuationTrainConfig, base: Path) -> None:
        self.config = config
        self.output = base / config.output_dir
        self.folder = RunFolder(self.output, kept=1, minutes=config.checkpoint_minutes, last=SCORES_FILE)
        torch.set_num_threads(config.threads)
        self.texts = Texts(config.texts, config.exclude, base)
        text = label_text(self.texts.connected, self.texts.alone)
        # A recogniser's "'tis" is "tis" to the punctuator, which takes the apostrophe for a quotation mark.
        forms = {word: form for word, form in text.forms.items() if word[0] != "'"} | TITLES
        self.model = dataclasses.replace(load_punctuation(base / config.init), forms=forms)
        longest = self.model.net.config.encoder.max_positions
        if config.windows.window > longest:
            raise ConfigError(
                f"{config.init}: knows {longest} positions, fewer than a window's {config.windows.window}"
            )
        self.windows = Windows(text, WordPieceTokenizer(self.model.pieces), config.windows, config.seed)
        decayed = [p for p in self.model.net.parameters() if p.dim() > 1]
        others = [p for p in self.model.net.parameters() if p.dim() == 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self.autocast = bfloat16_is_fast(torch.device("cpu"))
        self.step = 0

    def run(self) -> Path:
        """Train to the last step, resuming from the newest checkpoint if there is one; returns the model directory."""
        if self.folder.finished(self.config.steps):
            say(f"{self.folder.final}: finished, nothing to do; raise steps to go on, or name another output_dir")
            return self.folder.final
        self.folder.begin()
        self._resume()
        net = self.model.net.train()
        began = time.monotonic()
        first, losses = self.step, []
        while self.step < self.config.steps:
            losses.append(self._train_step(net))
            self.step += 1
            if self.step % 20 == 0:
                pieces = (self.step - first) * self.config.windows.rows * self.config.windows.window
                say(
                    f"step {self.step}/{self.config.steps}  loss {np.mean(losses):.4f}  "
                    f"{pieces / (time.monotonic() - began):.0f} pieces/s"
                )
                losses = []
            if self.folder.due():
                self.save_checkpoint()
        self.save_checkpoint()
        net.eval()
        return self.finish()

    def _train_step(self, net: PunctuationNet) -> float:
        rising = (self.step + 1) / max(1, self.config.warmup_steps)
        falling = (self.config.steps - self.step) / max(1, self.config.decay_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, rising, falling)
        batch = self.windows.batch(self.step)
        # The dropout's generator: a resumed run must draw what an uninterrupted one draws.
        torch.manual_seed(self.config.seed + self.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            marks, cases = net(batch.pieces_BT, batch.positions_BT, batch.texts_BT, batch.pauses_BT)
        mark_loss = F.cross_entropy(marks.float().flatten(0, 1), batch.marks_BT.flatten(), ignore_index=IGNORED)
        case_loss = F.cross_entropy(cases.float().flatten(0, 1), batch.cases_BT.flatten(), ignore_index=IGNORED)
        self.optimizer.zero_grad(set_to_none=True)
        (mark_loss + self.config.case_weight * case_loss).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return float(mark_loss.detach())

    def save_checkpoint(self) -> None:
        """Write the state of the run; older ones go."""
        self.folder.save(self.step, self.model.net, self.optimizer, {"step": self.step})

    def _resume(self) -> None:
        newest = self.folder.newest()
        if newest is not None:
            path, state = newest
            restore(path, self.model.net, self.optimizer)
            with damage_named(path):
                self.step = int(state["step"])
            say(f"resuming {path} at step {self.step}")

    def finish(self) -> Path:
        """Write the model directory `final`, its bias chosen on the dev texts, and `scores.json`; returns `final`."""
        final = self.folder.final
        save_punctuation(final, self.model)
        if self.texts.dev:
            # The stored int8 model is what will be used, so it is what is tuned and scored.
            stored = load_punctuation(final)
            bias = best_bias(Punctuator(stored), self.texts.dev)
            stored.net.config = dataclasses.replace(stored.net.config, mark_bias=bias)
            save_punctuation(final, stored)
        punctuator = Punctuator.load(final)
        scores = {}
        for name, texts in {"dev": self.texts.dev, **self.texts.tests}.items():
            for condition, pauses in (("", None), (", with simulated pauses", np.random.default_rng(self.config.seed))):
                if texts:
                    scores[name + condition] = score(punctuator, texts, pauses)
        for name, result in scores.items():
            print("\n".join([f"{name}: {result.words} words", *result.lines()]), file=sys.stderr)
        table = json.dumps({name: result.as_dict() for name, result in scores.items()}, indent=1)
        (self.output / SCORES_FILE).write_text(table + "\n", encoding="utf-8")
        return final
