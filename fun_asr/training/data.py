"""Training data: JSONL manifests in NeMo's keys, length-bucketed batches, sound and labels."""

from __future__ import annotations

import copy
import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE, decode, probe
from fun_asr.audio.excerpt import Excerpt, cut_out
from fun_asr.audio.features import log_mel
from fun_asr.errors import CheckpointError, FunASRError, ManifestError
from fun_asr.inputs.manifest import read_rows
from fun_asr.text.languages import LANGUAGE_NAMES, language_code, language_in, unknown_language
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.training.acoustics import Wave
from fun_asr.training.augment import AugmentConfig, augment_wave, spec_augment
from fun_asr.training.teaching import Teaching, TeachingBatch, TeachingEntry, load_teaching, stack

JOINED_SECONDS = 20.0

IGNORED = -100
"""Label of decoder positions that are not trained: the prompt and the padding."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One line of a manifest."""

    audio_filepath: Path
    duration: float
    """Seconds."""
    text: str
    """Spoken form, lower case: the CTC target. Empty with a non-empty `written`: no CTC target."""
    written: str
    """Formatted form: the decoder's target."""
    trains_decoder: bool = True
    """Whether `written` is a target of the decoder."""
    trains_ctc: bool = True
    """Whether `text` is a target of the CTC head."""
    language: str = "en"
    offset: float = 0.0
    """Seconds into the file."""
    parts: tuple[Utterance, ...] = ()
    """Utterances that follow each other in this one, which then has no audio file of its own."""
    teaching: TeachingEntry | None = None
    """What a teacher says of it, along `written`."""
    place: str = field(default="", compare=False)
    """The manifest and the line's number."""


def join(parts: Sequence[Utterance]) -> Utterance:
    """One utterance of several that follow each other."""
    return Utterance(
        audio_filepath=parts[0].audio_filepath,
        duration=sum(part.duration for part in parts),
        text=" ".join(part.text for part in parts),
        written=" ".join(part.written for part in parts),
        language=parts[0].language,
        parts=tuple(parts),
    )


def read_manifest(path: Path) -> list[Utterance]:
    """Read a JSONL manifest, whose audio paths are relative to it, or a data directory of Kaldi's.

    Raises:
        ManifestError: when the file cannot be read or a line is not an object with the needed keys.
    """
    if path.is_dir():
        return _read_data_dir(path)
    utterances = []
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    text = str(row.get("text", ""))
                    language = language_code(str(row.get("language") or "en"))
                    language = language and language_in(LANGUAGE_NAMES, language)
                    if language is None or language not in LANGUAGE_NAMES:
                        raise ValueError(unknown_language(str(row["language"])))
                    entry = row.get("teacher")
                    utterances.append(
                        Utterance(
                            audio_filepath=path.parent / row["audio_filepath"],
                            duration=float(row["duration"]),
                            text=text,
                            written=str(row.get("written") or text),
                            language=language,
                            offset=float(row.get("offset", 0.0)),
                            parts=tuple(_part(part, path.parent, language) for part in row.get("parts", ())),
                            teaching=None if entry is None else TeachingEntry.parse(entry, path.parent),
                            place=f"{path}:{number}",
                        )
                    )
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    raise ManifestError(f"{path}:{number}: no utterance ({error!r})") from None
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    if not utterances:
        raise ManifestError(f"{path}: no utterances")
    return utterances


def _read_data_dir(folder: Path) -> list[Utterance]:
    """The utterances of a data directory, each of which must have a text, and a length that its recording tells."""
    rows, errors = read_rows(folder)
    if errors:
        raise errors[0]
    utterances = []
    for row in rows:
        language = language_code(row.language or "en")
        text = row.fields.get("text")
        whole = probe(row.audio_filepath) if row.duration is None else None
        duration = row.duration if whole is None else whole - row.offset
        language = language and language_in(LANGUAGE_NAMES, language)
        language = language if language in LANGUAGE_NAMES else None
        cause = unknown_language(row.language or "") if language is None else None
        cause = cause or ("has no text" if text is None else "has a length that only decoding tells")
        if language is None or text is None or duration is None:
            raise ManifestError(f"{row.place}: {row.name}: {cause}")
        utterances.append(
            Utterance(
                audio_filepath=Path(row.audio_filepath),
                duration=duration,
                text=text,
                written=text,
                language=language,
                offset=row.offset,
            )
        )
    return utterances


def _part(row: Mapping[str, Any], folder: Path, language: str) -> Utterance:
    """One of the sounds that follow each other in a line's utterance; the line has their text."""
    return Utterance(
        audio_filepath=folder / row["audio_filepath"],
        duration=float(row["duration"]),
        text="",
        written="",
        language=language,
        offset=float(row.get("offset", 0.0)),
    )


def load_wave(utterance: Utterance) -> Wave:
    """Decode an utterance's samples.

    Raises:
        AudioDecodeError: as `decode`.
    """
    if utterance.parts:
        return np.concatenate([load_wave(part) for part in utterance.parts])
    wave = decode(utterance.audio_filepath)
    return cut_out(wave, Excerpt(str(utterance.audio_filepath), utterance.offset, utterance.duration or None))


@dataclass(frozen=True)
class Batch:
    """B utterances ready for the network."""

    features: Tensor
    """Log-mel `[views * B, M, T]`."""
    lengths_B: Tensor
    """Log-mel frames, int64, of as many rows."""
    tokens_BS: Tensor
    """Decoder input, int64."""
    labels_BS: Tensor
    """Decoder targets, `IGNORED` where there is none."""
    ctc_labels: list[Tensor]
    """CTC targets, one int64 vector a row."""
    ctc_rows: Tensor
    """True for the rows that have a CTC target, bool `[views * B]`."""
    seconds: float
    """Audio in the batch, padding left out."""
    teaching: TeachingBatch | None = None
    """What a teacher says of it."""

    @property
    def views(self) -> int:
        """How many copies of each spectrogram there are, masked differently: all first ones, then all second ones.

        Only the CTC head is trained on the second ones: tokens, labels and teaching are of the B first ones.
        """
        return len(self.features) // len(self.tokens_BS)

    def to(self, device: torch.device) -> Batch:
        """The same batch with its network inputs on `device`."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("features", "lengths_B", "tokens_BS", "labels_BS", "ctc_rows")
        }
        teaching = None if self.teaching is None else self.teaching.to(device)
        return dataclasses.replace(self, **moved, teaching=teaching)


def plan_epoch(
    sources: Sequence[tuple[Sequence[Utterance], float]],
    batch_seconds: float,
    seed: int,
    epoch: int,
    joined: float = 0.0,
    window_seconds: float = 0.0,
) -> list[list[Utterance]]:
    """Batches of one epoch: utterances of like length together, padded size at most `batch_seconds`, shuffled.

    Arguments:
        sources: utterances with their weight: how often each is seen an epoch (2.5: all twice, a random half thrice).
        batch_seconds: seconds a batch spans, padding included.
        seed, epoch: the same pair gives the same plan.
        joined: part of the utterances that are joined in twos and threes, up to `JOINED_SECONDS`.
        window_seconds: what every utterance is padded to at least.
    """
    rng = np.random.default_rng([seed, epoch])
    chosen: list[Utterance] = []
    for utterances, weight in sources:
        whole = int(weight)
        chosen += list(utterances) * whole
        extra = round((weight - whole) * len(utterances))
        chosen += [utterances[i] for i in rng.permutation(len(utterances))[:extra]]
    if joined:
        chosen = _joined(chosen, joined, rng)
    jitter = rng.uniform(0.9, 1.1, len(chosen))
    order = np.argsort([u.duration * j for u, j in zip(chosen, jitter, strict=True)], kind="stable")
    batches: list[list[Utterance]] = [[]]
    longest = window_seconds
    for index in order:
        utterance = chosen[index]
        longest = max(longest, utterance.duration)
        if batches[-1] and longest * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
            longest = max(window_seconds, utterance.duration)
        batches[-1].append(utterance)
    return [batches[i] for i in rng.permutation(len(batches))]


def _joined(utterances: Sequence[Utterance], part: float, rng: np.random.Generator) -> list[Utterance]:
    """Join neighbours of a random order until about `part` of the utterances is in a group."""
    kept: list[Utterance] = []
    group: list[Utterance] = []
    wanted = 0
    for index in rng.permutation(len(utterances)):
        utterance = utterances[index]
        if not group and rng.random() < part / 2.5 / (1 - part + part / 2.5):
            wanted = int(rng.integers(2, 4))
        fits = not group or (
            sum(u.duration for u in group) + utterance.duration <= JOINED_SECONDS
            and utterance.language == group[0].language
        )
        whole = utterance.trains_decoder and utterance.text and utterance.written and utterance.teaching is None
        if wanted and fits and whole:
            group.append(utterance)
            if len(group) == wanted:
                kept.append(join(group))
                group, wanted = [], 0
        else:
            kept.append(utterance)
    return kept + group


class WaveReader(ABC):
    """Reads the sound of planned batches: decoding, and augmentation where batches are trained on.

    Arguments:
        max_seconds: the longest utterance that fits the model.
    """

    def __init__(self, max_seconds: float = 30.0) -> None:
        self.max_samples = round(max_seconds * SAMPLE_RATE)
        self.augment: AugmentConfig | None = None
        self.noises: Sequence[Wave] = ()
        self.rooms: Sequence[Wave] = ()
        self.on_left_out: Callable[[Utterance, str], None] = lambda utterance, why: None
        """Hears of each utterance that is left out, and why."""

    def augmented(self, augment: AugmentConfig, noises: Sequence[Wave], rooms: Sequence[Wave] = ()) -> Self:
        """The same reader with augmentation; `noises` and `rooms` (impulse responses) are as for `augment_wave`."""
        other = copy.copy(self)
        other.augment, other.noises, other.rooms = augment, noises, rooms
        return other

    @abstractmethod
    def __call__(self, utterances: Sequence[Utterance], rng: np.random.Generator) -> Any:
        """A batch of the family that the reader belongs to; None when nothing is left of the utterances."""

    def read(self, utterances: Sequence[Utterance], rng: np.random.Generator) -> tuple[list[Utterance], list[Wave]]:
        """The utterances that can be decoded and fit the model, and their samples, augmented where batches are."""
        kept, waves = [], []
        for utterance in utterances:
            try:
                wave = load_wave(utterance)
            except FunASRError as error:
                self.on_left_out(utterance, str(error))
                continue
            if self.augment is not None and 0 < len(wave) <= self.max_samples:
                # A teacher has heard it at its own speed; slowed down, a long one would not fit any more.
                speeds = self.augment.speeds if utterance.teaching is None else (1.0,)
                fitting = tuple(speed for speed in speeds if len(wave) / speed <= self.max_samples)
                chosen = dataclasses.replace(self.augment, speeds=fitting or (1.0,))
                wave = augment_wave(wave, self.noises, chosen, rng, self.rooms)[: self.max_samples]
            if 0 < len(wave) <= self.max_samples:
                kept.append(utterance)
                waves.append(wave)
            else:
                self.on_left_out(utterance, f"{len(wave) / SAMPLE_RATE:.1f} s of sound")
        return kept, waves


class Collator(WaveReader):
    """Turns planned batches into tensors: decoding, augmentation, features, labels."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        ctc_tokenizer: CTCTokenizer,
        *,
        n_mels: int,
        max_tokens: int,
        max_seconds: float = 30.0,
        train_language: bool = False,
        views: int = 1,
    ) -> None:
        super().__init__(max_seconds)
        self.views = views
        self.tokenizer, self.ctc_tokenizer = tokenizer, ctc_tokenizer
        self.n_mels, self.max_tokens = n_mels, max_tokens
        self.train_language = train_language

    def __call__(self, utterances: Sequence[Utterance], rng: np.random.Generator) -> Batch | None:
        """The batch, less the utterances that do not fit or cannot be decoded; None when nothing is left."""
        kept, waves = self.read(utterances, rng)
        if not kept:
            return None
        features, lengths_B = log_mel(waves, n_mels=self.n_mels)
        views = 1
        if self.augment is not None:
            views = self.views
            features, lengths_B = features.repeat(views, 1, 1), lengths_B.repeat(views)
            spec_augment(features, lengths_B.tolist(), self.augment, rng)
        inputs, labels, teachings = [], [], []
        for utterance in kept:
            prompt = self.tokenizer.prompt(utterance.language)
            written = self.tokenizer.encode(utterance.written)[: self.max_tokens - len(prompt)]
            inputs.append(torch.tensor(prompt + written))
            target = [IGNORED] * (len(prompt) - 1) + [*written, self.tokenizer.eot]
            if self.train_language and written:  # noise is in no language
                target[0] = prompt[1]
            labels.append(torch.tensor(target if utterance.trains_decoder else [IGNORED] * len(target)))
            teachings.append(_teaching(utterance, inputs[-1]))
        tokens_BS = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=self.tokenizer.eot)
        prompts = [len(self.tokenizer.prompt(utterance.language)) for utterance in kept]
        spoken = [torch.tensor(self.ctc_tokenizer.encode(u.text), dtype=torch.int64) for u in kept]
        return Batch(
            features=features,
            lengths_B=lengths_B,
            tokens_BS=tokens_BS,
            labels_BS=torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED),
            ctc_labels=spoken * views,
            ctc_rows=torch.tensor([u.trains_ctc and (bool(u.text) or not u.written) for u in kept] * views),
            seconds=sum(len(wave) for wave in waves) / SAMPLE_RATE,
            teaching=stack(teachings, -(-features.shape[-1] // 2), tokens_BS.shape[1], prompts),
        )


def _teaching(utterance: Utterance, tokens_S: Tensor) -> Teaching | None:
    """What a teacher says of an utterance along its decoder inputs."""
    if utterance.teaching is None:
        return None
    teaching = load_teaching(utterance.teaching)
    if len(teaching.tokens_S) and teaching.tokens_S.tolist() != tokens_S.tolist():
        entry = utterance.teaching
        raise CheckpointError(
            f"{entry.path}: teaching {entry.number} is along other tokens than the utterance's; make the cache again "
            "with the model's tokenizer"
        )
    return teaching
