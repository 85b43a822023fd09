"""Published Whisper models in training: windows of 30 s, the decoder's cross-entropy, written as transformers does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding.generate import GenerateOptions, generate
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.models.whisper import publish
from fun_asr.models.whisper.checkpoint import open_checkpoint
from fun_asr.models.whisper.features import padded_log_mel
from fun_asr.models.whisper.load import load_network
from fun_asr.models.whisper.network import Whisper
from fun_asr.models.whisper.tokenizer import WhisperTokenizer
from fun_asr.training.acoustics import Wave
from fun_asr.training.augment import spec_augment
from fun_asr.training.config import TrainConfig
from fun_asr.training.data import IGNORED, Utterance, WaveReader
from fun_asr.training.trainees.protocol import StepLosses, Trainee, Verdict
from fun_asr.weights.precision import ComputeType
from fun_asr.weights.published import write_published

__all__ = ["WhisperTrainee"]


@dataclass(frozen=True)
class WhisperBatch:
    """B utterances ready for the network."""

    features: Tensor
    """Log-mel `[B, M, T]` of whole windows."""
    tokens_BS: Tensor
    """Decoder input, int64."""
    labels_BS: Tensor
    """Decoder targets, `IGNORED` where there is none."""
    seconds: float

    def to(self, device: torch.device) -> WhisperBatch:
        """The same batch on `device`."""
        return WhisperBatch(
            self.features.to(device), self.tokens_BS.to(device), self.labels_BS.to(device), self.seconds
        )


class WhisperReader(WaveReader):
    """Makes batches for a model.

    Arguments:
        tokenizer: the model's.
        n_mels, frames: mel bins, and frames of 10 ms in the model's window.
        train_language: whether the decoder learns to recognise the language too.
    """

    def __init__(self, tokenizer: WhisperTokenizer, n_mels: int, frames: int, *, train_language: bool) -> None:
        super().__init__(frames / 100)
        self.tokenizer, self.n_mels, self.frames, self.train_language = tokenizer, n_mels, frames, train_language

    def __call__(self, utterances: Sequence[Utterance], rng: np.random.Generator) -> WhisperBatch | None:
        """The batch, less the utterances that do not fit or cannot be decoded; None when nothing is left."""
        kept, waves = self.read(utterances, rng)
        if not kept:
            return None
        features = padded_log_mel(waves, n_mels=self.n_mels, frames=self.frames)
        if self.augment is not None:
            spec_augment(features, [len(wave) // 160 for wave in waves], self.augment, rng)
        prompts = self.tokenizer.prompts("", 2, translate=False)
        inputs, labels = [], []
        for utterance in kept:
            prompt = prompts.prompt(utterance.language)
            written = self.tokenizer.encode(utterance.written)
            inputs.append(torch.tensor(prompt + written))
            target = [IGNORED] * (len(prompt) - 1) + [*written, self.tokenizer.eot]
            if self.train_language and written and self.tokenizer.multilingual:  # noise is in no language
                target[0] = prompt[1]
            labels.append(torch.tensor(target))
        pad = torch.nn.utils.rnn.pad_sequence
        return WhisperBatch(
            features=features,
            tokens_BS=pad(inputs, batch_first=True, padding_value=self.tokenizer.eot),
            labels_BS=pad(labels, batch_first=True, padding_value=IGNORED),
            seconds=sum(len(wave) for wave in waves) / SAMPLE_RATE,
        )


class WhisperTrainee(Trainee):
    """A published Whisper model in any of its layouts.

    Arguments:
        path: what `fun_asr.models.whisper.checkpoint.open_checkpoint` takes.
        config: of the run.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """

    family = "whisper"
    targets = ("q_proj", "k_proj", "v_proj", "out_proj")
    unread = (
        "ctc_replay", "ctc_weight", "ctc_intermediate_weight", "ctc_consistency_weight", "distil",
        "balance_loss_weight", "z_loss_weight",
    )  # fmt: skip
    network: Whisper

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.checkpoint = checkpoint = open_checkpoint(path)
        said = checkpoint.generation.multilingual
        self.tokenizer = WhisperTokenizer(
            checkpoint.folder,
            vocab_size=checkpoint.config.vocab_size,
            multilingual=checkpoint.config.multilingual if said is None else said,
        )
        network = load_network(checkpoint, torch.device("cpu"), ComputeType.FLOAT32)
        super().__init__(network, publish.names(checkpoint.config), config)
        self.longest_seconds = self.window_seconds = checkpoint.config.max_frames / ENCODER_FRAMES_PER_SECOND
        self._prompts = self.tokenizer.prompts("", checkpoint.config.max_tokens, translate=False)

    def reader(self) -> WhisperReader:
        """What makes batches of planned utterances."""
        config = self.network.config
        return WhisperReader(
            self.tokenizer, config.n_mels, 2 * config.max_frames, train_language=self.config.train_language
        )

    def knows(self, language: str) -> bool:
        """Whether the decoder can be told this language."""
        return language in self.tokenizer.languages if self.tokenizer.multilingual else language == "en"

    def judge(self, utterance: Utterance) -> Verdict:
        """Whether an utterance's language and text can be trained on."""
        if not self.knows(utterance.language):
            return Verdict(utterance, f"the model has no language {utterance.language}")
        if not utterance.trains_decoder:
            return Verdict(utterance, "targets: the model has a decoder alone")
        most = self.network.config.max_tokens - len(self._prompts.prompt(utterance.language))
        if len(self.tokenizer.encode(utterance.written)) > most:
            return Verdict(utterance, f"more than the decoder's {most} tokens of text")
        return Verdict(utterance)

    def losses(self, batch: WhisperBatch) -> StepLosses:
        """The decoder's cross-entropy."""
        lengths_B = torch.full((len(batch.features),), batch.features.shape[-1], device=batch.features.device)
        encoded = self.network.encode(batch.features, lengths_B)
        hidden = self.network.decoder(batch.tokens_BS, encoded)
        trained = batch.labels_BS != IGNORED
        # The vocabulary is wide: logits are computed only where there is a label.
        logits = self.network.decoder.embedding.logits(hidden[trained]).float()
        loss = F.cross_entropy(logits, batch.labels_BS[trained], label_smoothing=self.config.label_smoothing)
        return StepLosses(loss, {"decoder_loss": loss})

    def recognise(self, waves: Sequence[Wave], languages: Sequence[str]) -> dict[str, list[str]]:
        """Greedy texts."""
        config, generation = self.network.config, self.checkpoint.generation
        features = padded_log_mel(waves, n_mels=config.n_mels, frames=2 * config.max_frames, device=self.device)
        lengths_B = torch.full((len(waves),), features.shape[-1], device=self.device)
        encoded = self.network.encode(features, lengths_B)
        suppress, first = generation.suppress, generation.suppress_first
        search = GenerateOptions(
            suppress=self.tokenizer.no_speech_signs if suppress is None else suppress,
            suppress_first=self.tokenizer.blanks if first is None else first,
        )
        found = generate(
            self.network.decoder,
            encoded,
            torch.full_like(lengths_B, encoded.shape[1]),
            self._prompts,
            languages,
            search,
            seconds=[len(wave) / SAMPLE_RATE for wave in waves],
        )
        return {"wer": [self.tokenizer.decode(hypothesis.tokens) for hypothesis in found]}

    def save(self, directory: Path) -> None:
        """Write a folder of transformers in float32."""
        tensors = self.names.published({"encoder.positions": self.network.encoder.positions, **self.merged()})
        files, written = publish.files(self.checkpoint, self.tokenizer)
        write_published(directory, tensors, files, written)
