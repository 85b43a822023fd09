"""The teacher of a distillation: a network that hears each utterance padded, and the cache of what it says.

The teacher costs its whole window of encoder an utterance whatever the utterance's length, so it is asked once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.features import log_mel
from fun_asr.decoding.generate import GenerateOptions, generate
from fun_asr.decoding.guard import cut_loops
from fun_asr.files import replacing
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.models.fun_asr.load import load_network
from fun_asr.text.tokenizer import Tokenizer
from fun_asr.training.data import Utterance, join, load_wave
from fun_asr.training.teaching import Teaching, taught_positions
from fun_asr.weights.directory import TOKENIZER_FILE
from fun_asr.weights.precision import ComputeType

INDEX_FILE = "manifest.jsonl"
SAMPLES_PER_FRAME = SAMPLE_RATE // ENCODER_FRAMES_PER_SECOND
LONGEST_OUTPUT = 8.0
"""Tokens a second of the window: bounds the work that a loop can cause."""

Place = tuple[tuple[str, float], ...]


class Teacher:
    """Asks a network about utterances.

    Arguments:
        directory: its model directory.
        compute_type: its arithmetic.
        padded: whether it hears silence after each utterance up to its longest input, as Whisper was trained.
        top: how many of the most likely tokens are kept at each position.
        device: where it computes.
    """

    def __init__(
        self,
        directory: Path,
        compute_type: ComputeType,
        *,
        padded: bool = True,
        top: int = 50,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.network = load_network(directory, self.device, compute_type)
        self.tokenizer = Tokenizer(directory / TOKENIZER_FILE)
        self.padded, self.top = padded, top

    @torch.inference_mode()
    def teach(self, utterances: Sequence[Utterance], *, frames_only: bool = False) -> list[tuple[str, Teaching] | None]:
        """What the teacher says of each utterance along its `written`, or, where that is empty, its own greedy text.

        Arguments:
            utterances: in languages that the teacher knows, unless `frames_only`.
            frames_only: keep the encoder's output alone.

        Returns:
            the text and the teaching; None where the teacher's own text is empty or a loop.
        """
        waves = [load_wave(utterance) for utterance in utterances]
        frames = [-(-len(wave) // SAMPLES_PER_FRAME) for wave in waves]
        if self.padded:
            window = self.network.config.encoder.max_frames * SAMPLES_PER_FRAME
            waves = [np.pad(wave, (0, max(0, window - len(wave)))) for wave in waves]
        features = log_mel(waves, n_mels=self.network.config.encoder.n_mels, device=self.device)
        memory, lengths_B = self.network.encode(*features)
        kept = [memory[b, :count].to("cpu", torch.float16) for b, count in enumerate(frames)]
        nothing = torch.zeros(0, 0)
        if frames_only:
            return [("", Teaching(frame, nothing.flatten().int(), nothing.int(), nothing)) for frame in kept]
        texts = self._texts(utterances, memory, lengths_B)
        found: list[tuple[str, Teaching] | None] = []
        for b, (utterance, text) in enumerate(zip(utterances, texts, strict=True)):
            if not text:
                found.append(None)
                continue
            prompt = self.tokenizer.prompt(utterance.language)
            room = self.network.config.decoder.max_tokens - len(prompt)
            tokens = prompt + self.tokenizer.encode(text)[:room]
            positions = taught_positions(tokens, len(prompt))
            inputs_1S = torch.tensor([tokens], device=self.device)
            hidden = self.network.decoder(inputs_1S, memory[b : b + 1, : int(lengths_B[b])])
            logits = self.network.decoder.embedding.logits(hidden[0, positions]).float()
            best = logits.log_softmax(dim=-1).topk(min(self.top, logits.shape[-1]))
            ids_PK, log_probs_PK = best.indices.to("cpu", torch.int32), best.values.cpu()
            teaching = Teaching(kept[b], torch.tensor(tokens, dtype=torch.int32), ids_PK, log_probs_PK)
            found.append((text, teaching))
        return found

    def _texts(self, utterances: Sequence[Utterance], memory: Tensor, lengths_B: Tensor) -> list[str]:
        texts = [utterance.written for utterance in utterances]
        own = [b for b, text in enumerate(texts) if not text]
        if not own:
            return texts
        # The window is not the utterance: without this, each loop would be as long as 30 s may be.
        longest = max(utterances[b].duration for b in own)
        window = int(lengths_B.max()) / ENCODER_FRAMES_PER_SECOND
        options = GenerateOptions(
            suppress=self.tokenizer.captions, max_tokens_per_second=LONGEST_OUTPUT * min(1.0, longest / window)
        )
        languages = [utterances[b].language for b in own]
        hypotheses = generate(self.network.decoder, memory[own], lengths_B[own], self.tokenizer, languages, options)
        for b, hypothesis in zip(own, hypotheses, strict=True):
            tokens, looped = cut_loops(hypothesis.tokens)
            texts[b] = "" if looped or not hypothesis.complete else self.tokenizer.decode(tokens)
        return texts


class TeachingCache:
    """A folder of teachings with a manifest of their utterances, which trains a student; writing it can be resumed.

    Arguments:
        folder: created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.index = folder / INDEX_FILE
        rows = []
        if self.index.exists():
            rows = [json.loads(line) for line in self.index.read_text(encoding="utf-8").splitlines()]
        self.done = {_row_place(row) for row in rows}
        self._files = len({row["teacher"].rpartition("#")[0] for row in rows})

    def add(self, taught: Iterable[tuple[Utterance, str, Teaching]]) -> None:
        """Keep teachings in one further file: utterance, the text that it was asked along, teaching."""
        file = f"{self._files:05d}.safetensors"
        tensors: dict[str, Tensor] = {}
        lines = []
        for number, (utterance, text, teaching) in enumerate(taught):
            tensors |= teaching.tensors(number)
            row = _row(utterance) | {"written": text, "teacher": f"{file}#{number}"}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
            self.done.add(place(utterance))
        if not lines:
            return
        with replacing(self.folder / file) as unfinished:
            save_file(tensors, unfinished)
        # Only then: a line promises its teaching.
        with self.index.open("a", encoding="utf-8") as index:
            index.write("".join(lines))
        self._files += 1


def place(utterance: Utterance) -> Place:
    """What tells utterances apart: files and offsets."""
    return tuple((str(u.audio_filepath.resolve()), u.offset) for u in utterance.parts or (utterance,))


def windows(utterances: Sequence[Utterance], seconds: float, rng: np.random.Generator) -> list[Utterance]:
    """The utterances in random order, joined with others of their language up to `seconds`; 0 joins none."""
    found: list[Utterance] = []
    waiting: dict[str, list[Utterance]] = {}
    for index in rng.permutation(len(utterances)):
        utterance = utterances[index]
        group = waiting.setdefault(utterance.language, [])
        if group and sum(u.duration for u in group) + utterance.duration > seconds:
            found.append(_joined(group))
            group = waiting[utterance.language] = []
        group.append(utterance)
    return found + [_joined(group) for group in waiting.values() if group]


def _joined(group: Sequence[Utterance]) -> Utterance:
    if len(group) == 1:
        return group[0]
    joined = join(group)
    # Of a window that is said in part only, nothing is known.
    text = joined.text if all(u.text for u in group) else ""
    written = joined.written if all(u.written for u in group) else ""
    return dataclasses.replace(joined, text=text, written=written)


def _row(utterance: Utterance) -> dict[str, object]:
    row: dict[str, object] = {
        "audio_filepath": str(utterance.audio_filepath.resolve()),
        "duration": round(utterance.duration, 3),
        "text": utterance.text,
        "written": utterance.written,
        "language": utterance.language,
    }
    if utterance.offset:
        row["offset"] = utterance.offset
    if utterance.parts:
        row["parts"] = [_row(part) for part in utterance.parts]
    return row


def _row_place(row: dict[str, object]) -> Place:
    parts = row.get("parts") or [row]
    assert isinstance(parts, list)
    return tuple((str(part["audio_filepath"]), float(part.get("offset", 0.0))) for part in parts)
