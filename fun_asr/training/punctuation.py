"""Training of the punctuation model on formatted text: windows, checkpoints, exact resume, scores.

Shapes: B rows, T words, A affixes of a word.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.model.precision import bfloat16_is_fast
from fun_asr.model.punctuation import (
    PunctuationConfig,
    PunctuationModel,
    PunctuationNet,
    WordFeatures,
    load_punctuation,
    save_punctuation,
)
from fun_asr.text.punctuation import Punctuator
from fun_asr.training.data import read_manifest
from fun_asr.training.punctuation_data import TITLES, label_sentence, label_text, read_sentences
from fun_asr.training.punctuation_scores import best_bias, score
from fun_asr.training.punctuation_windows import IGNORED, Windows
from fun_asr.training.word_vectors import word_vectors

_MODEL_FILE, _OPTIMIZER_FILE, _STATE_FILE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Formatted text to learn from."""

    path: str
    """One sentence a line, `.xz` or not; or a JSONL manifest with `written`."""
    weight: int = 1
    """How often an epoch sees it."""
    connected: bool = True
    """Whether the lines follow each other as in a book; else each is a text of its own."""
    dev: tuple[str, ...] = ()
    """Ranges of lines, as "100-200" counted from 1, that choose `mark_bias`; "all" for all of them."""
    test: tuple[str, ...] = ()
    """Ranges of lines that are only scored, at the end."""

    def __post_init__(self) -> None:
        for lines in (*self.dev, *self.test):
            slice_of(lines)


def slice_of(lines: str) -> slice:
    """Lines "100-200", counted from 1, or "all", as a slice.

    Raises:
        ConfigError: when `lines` is neither.
    """
    if lines == "all":
        return slice(None)
    first, _, last = str(lines).partition("-")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)):
        raise ConfigError(f'expected a range of lines such as "100-200" or "all", got {lines!r}')
    return slice(int(first) - 1, int(last))


@dataclass(frozen=True, kw_only=True)
class PunctuationTrainConfig:
    """What to train the punctuation model on and how long."""

    texts: tuple[TextSource, ...]
    output_dir: str
    exclude: tuple[str, ...] = ()
    """Manifests whose sentences (`text`) are left out of training."""
    model: PunctuationConfig = field(default_factory=PunctuationConfig)
    word_vectors: str = ""
    """Model directory whose decoder's token embedding starts the word vectors; empty starts them at random."""
    steps: int = 4000
    rows: int = 20
    """Windows in a batch."""
    window: int = 128
    """Words in a window."""
    short_rows: float = 0.35
    """Part of the windows that hold a few whole sentences at a time, each group a text of its own."""
    known_pauses: float = 0.25
    """Part of the windows that come with simulated pauses; the others learn to do without."""
    digits: float = 0.2
    """Part of the number words that are shown as digits."""
    case_weight: float = 0.3
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    final_ratio: float = 0.02
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    checkpoint_minutes: float = 5.0
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.texts:
            raise ConfigError("texts: no text to train on")
        if min(self.steps, self.rows, self.threads) < 1 or self.window <= 2 * self.model.step:
            raise ConfigError("steps, rows and threads must be positive, window longer than two of a layer's steps")


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
        torch.set_num_threads(config.threads)
        self.texts = _Texts(config, base)
        text = label_text(self.texts.connected, self.texts.alone)
        counts = np.bincount(text.words_N, minlength=len(text.types))
        common = np.argsort(-counts, kind="stable")[: config.model.num_words]
        words = [text.types[i] for i in common if counts[i] > 1]
        self.model_config = dataclasses.replace(config.model, num_words=len(words))
        # A recogniser's "'tis" is "tis" to the punctuator, which takes the apostrophe for a quotation mark.
        forms = {word: form for word, form in text.forms.items() if word[0] != "'"} | TITLES
        torch.manual_seed(config.seed)
        self.model = PunctuationModel(PunctuationNet(self.model_config), words, forms)
        if config.word_vectors:
            vectors = word_vectors(base / config.word_vectors, words, config.model.embedding_dim)
            with torch.no_grad():
                self.model.net.words.weight[1:] = vectors
        self.windows = Windows(
            text,
            WordFeatures(words, config.model.num_affixes),
            rows=config.rows,
            window=config.window,
            gap=config.model.step,
            short_rows=config.short_rows,
            known_pauses=config.known_pauses,
            digits=config.digits,
            seed=config.seed,
        )
        self.optimizer = torch.optim.AdamW(
            self.model.net.parameters(), weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
        )
        self.autocast = bfloat16_is_fast(torch.device("cpu"))
        self.step = 0

    def run(self) -> Path:
        """Train to the last step, resuming from the newest checkpoint if there is one; returns the model directory."""
        self.output.mkdir(parents=True, exist_ok=True)
        self._resume()
        net = self.model.net.train()
        began = saved = time.monotonic()
        first, losses = self.step, []
        while self.step < self.config.steps:
            losses.append(self._train_step(net))
            self.step += 1
            if self.step % 100 == 0:
                words = (self.step - first) * self.config.rows * self.config.window
                print(
                    f"step {self.step}/{self.config.steps}  loss {np.mean(losses):.4f}  "
                    f"{words / (time.monotonic() - began):.0f} words/s",
                    file=sys.stderr,
                    flush=True,
                )
                losses = []
            if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                self.save_checkpoint()
                saved = time.monotonic()
        self.save_checkpoint()
        net.eval()
        return self.finish()

    def _train_step(self, net: PunctuationNet) -> float:
        progress = self.step / self.config.steps
        rate = self.config.learning_rate * min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (1 - (1 - self.config.final_ratio) * progress)
        batch = self.windows.batch(self.step)
        # The dropout's generator: a resumed run must draw what an uninterrupted one draws.
        torch.manual_seed(self.config.seed + self.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            marks, cases = net(batch.numbers_BT, batch.affixes_BTA, batch.pauses_BT, batch.mask_BT)
        mark_loss = F.cross_entropy(marks.float().flatten(0, 1), batch.marks_BT.flatten(), ignore_index=IGNORED)
        case_loss = F.cross_entropy(cases.float().flatten(0, 1), batch.cases_BT.flatten(), ignore_index=IGNORED)
        self.optimizer.zero_grad(set_to_none=True)
        (mark_loss + self.config.case_weight * case_loss).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return float(mark_loss.detach())

    def save_checkpoint(self) -> None:
        """Write the state of the run; the folder appears whole or not at all, older ones go."""
        folder = self.output / f"checkpoint-{self.step:07d}"
        unfinished = folder.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        save_file(self.model.net.state_dict(), unfinished / _MODEL_FILE)
        moments: dict[str, Tensor] = {}
        for name, parameter in self.model.net.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                moments[f"{name}:{key}"] = value
        save_file(moments, unfinished / _OPTIMIZER_FILE)
        (unfinished / _STATE_FILE).write_text(json.dumps({"step": self.step}))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
        for old in self._checkpoints()[:-1]:
            shutil.rmtree(old)

    def _checkpoints(self) -> list[Path]:
        return sorted(path for path in self.output.glob("checkpoint-*") if path.suffix != ".tmp")

    def _resume(self) -> None:
        checkpoints = self._checkpoints()
        if not checkpoints:
            return
        newest = checkpoints[-1]
        try:
            self.step = int(json.loads((newest / _STATE_FILE).read_text())["step"])
            self.model.net.load_state_dict(load_file(newest / _MODEL_FILE))
            parameters = dict(self.model.net.named_parameters())
            for key, value in load_file(newest / _OPTIMIZER_FILE).items():
                name, _, moment = key.rpartition(":")
                self.optimizer.state[parameters[name]][moment] = value
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{newest}: damaged checkpoint ({error}); delete it to start again") from None
        print(f"resumed at step {self.step}", file=sys.stderr)

    def finish(self) -> Path:
        """Write the model directory `final`, its bias chosen on the dev texts, and `scores.json`; returns `final`."""
        final = self.output / "final"
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
        (self.output / "scores.json").write_text(table + "\n", encoding="utf-8")
        return final


class _Texts:
    """The sentences of a config's texts by what they are for."""

    def __init__(self, config: PunctuationTrainConfig, base: Path) -> None:
        self.dev: list[list[str]] = []
        """One list of sentences a text."""
        self.tests: dict[str, list[list[str]]] = {}
        """By the names of the files."""
        excluded = {_key(row.text) for manifest in config.exclude for row in read_manifest(base / manifest)}
        left: list[tuple[TextSource, list[str]]] = []
        for source in config.texts:
            sentences = list(read_sentences(base / source.path))
            self.dev += _held_out(sentences, source, source.dev)
            if source.test:
                self.tests[Path(source.path).name] = _held_out(sentences, source, source.test)
            held_out = _chosen(sentences, (*source.dev, *source.test))
            if not source.connected:
                excluded |= {_key(sentences[i]) for i in held_out}
            left.append((source, [s for i, s in enumerate(sentences) if s and i not in held_out]))
        self.connected: list[str] = []
        """Training sentences that follow each other."""
        self.alone: list[str] = []
        """Training sentences that are a text each."""
        for source, sentences in left:
            kept = [sentence for sentence in sentences if _key(sentence) not in excluded]
            (self.connected if source.connected else self.alone).extend(kept * source.weight)


def _held_out(sentences: Sequence[str], source: TextSource, ranges: Iterable[str]) -> list[list[str]]:
    texts = [[s for s in sentences[slice_of(lines)] if label_sentence(s)] for lines in ranges]
    return texts if source.connected else [[sentence] for text in texts for sentence in text]


def _chosen(sentences: Sequence[str], ranges: Iterable[str]) -> set[int]:
    return {i for lines in ranges for i in range(len(sentences))[slice_of(lines)]}


def _key(sentence: str) -> str:
    """What two writings of one sentence have in common."""
    return " ".join(re.findall(r"[^\W_]+", sentence.lower().replace("’", "'")))
