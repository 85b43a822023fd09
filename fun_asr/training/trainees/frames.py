"""Published conformers with a CTC head in training: Parakeet CTC and Granite Speech, written as transformers does."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fun_asr.audio.conformer_features import normalised_log_mel, stacked_log_mel
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding import ctc
from fun_asr.errors import CheckpointError
from fun_asr.models.conformer import recogniser as conformer
from fun_asr.models.conformer import weights as conformer_weights
from fun_asr.models.conformer.network import Conformer
from fun_asr.models.granite import recogniser as granite
from fun_asr.models.granite import weights as granite_weights
from fun_asr.models.granite.network import Granite
from fun_asr.text.pieces import Pieces
from fun_asr.training.acoustics import Wave
from fun_asr.training.augment import spec_augment
from fun_asr.training.config import TrainConfig
from fun_asr.training.ctc_losses import ctc_loss_of
from fun_asr.training.data import Utterance, WaveReader
from fun_asr.training.trainees.protocol import StepLosses, Trainee, Verdict
from fun_asr.weights.load import assign, only_shapes
from fun_asr.weights.published import PublishedNames, companions, write_published
from fun_asr.weights.sources import WeightSource

__all__ = ["ConformerTrainee", "GraniteTrainee"]

Features = Callable[[Sequence[Wave]], tuple[Tensor, Tensor]]

COUNTED = "num_batches_tracked"


@dataclass(frozen=True)
class FrameBatch:
    """B utterances ready for the network."""

    features: Tensor
    """`[B, T, M]`."""
    lengths_B: Tensor
    """Frames of each, int64."""
    labels: list[Tensor]
    """Tokens of each, int64."""
    seconds: float

    def to(self, device: torch.device) -> FrameBatch:
        """The same batch with its network inputs on `device`."""
        return dataclasses.replace(self, features=self.features.to(device), lengths_B=self.lengths_B.to(device))


class FrameReader(WaveReader):
    """Makes batches for a model.

    Arguments:
        features: the model's front end.
        pieces: its vocabulary.
        max_seconds: the longest utterance.
    """

    def __init__(self, features: Features, pieces: Pieces, max_seconds: float) -> None:
        super().__init__(max_seconds)
        self.features, self.pieces = features, pieces

    def __call__(self, utterances: Sequence[Utterance], rng: np.random.Generator) -> FrameBatch | None:
        """The batch, less the utterances that do not fit or cannot be decoded; None when nothing is left."""
        kept, waves = self.read(utterances, rng)
        if not kept:
            return None
        features, lengths_B = self.features(waves)
        if self.augment is not None:
            features = spec_augment(features.transpose(1, 2), lengths_B.tolist(), self.augment, rng).transpose(1, 2)
        return FrameBatch(
            features=features,
            lengths_B=lengths_B,
            labels=[torch.tensor(self.pieces.encode(u.text) or [], dtype=torch.int64) for u in kept],
            seconds=sum(len(wave) for wave in waves) / SAMPLE_RATE,
        )


class _FrameTrainee(Trainee):
    """What is common to both: the CTC loss, and BatchNorm, which keeps the statistics that it was published with, since
    those of a few utterances and their padding are worse."""

    unread = (
        "ctc_replay", "ctc_weight", "ctc_intermediate_weight", "ctc_consistency_weight", "distil", "label_smoothing",
        "train_language", "balance_loss_weight", "z_loss_weight",
    )  # fmt: skip

    def __init__(
        self,
        directory: Path,
        network: nn.Module,
        source: WeightSource,
        pieces: Pieces,
        published_name: Callable[[str], str],
        shapes: dict[str, tuple[int, ...]],
        config: TrainConfig,
        *,
        blank: int,
        frame: int,
    ) -> None:
        self.directory, self.pieces, self.blank, self.frame = directory, pieces, blank, frame
        own = network.state_dict()
        names = PublishedNames({name: (published_name(name),) for name in own}, shapes)
        state = {}
        for name, tensor in own.items():
            # How many batches the statistics come from is not read: they stay.
            state[name] = (
                torch.zeros((), dtype=torch.int64)
                if name.endswith(COUNTED)
                else source.read(published_name(name)).float().reshape(tensor.shape).clone()
            )
        assign(network, state, str(directory))
        super().__init__(network, names, config)

    @abstractmethod
    def features(self, waves: Sequence[Wave]) -> tuple[Tensor, Tensor]:
        """The front end, on the CPU."""

    @abstractmethod
    def logits(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Of the CTC head, `[B, L, C]`, and the frames that count."""

    def start(self) -> None:
        """Training mode, but for the normalisations' statistics."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()

    def reader(self) -> FrameReader:
        """What makes batches of planned utterances."""
        return FrameReader(self.features, self.pieces, self.longest_seconds)

    def judge(self, utterance: Utterance) -> Verdict:
        """Whether an utterance's text can be trained on: what it is written as where the vocabulary has capitals."""
        if not utterance.trains_ctc:
            return Verdict(utterance, "targets: the model has a CTC head alone")
        note = ""
        if self.pieces.has_capitals:
            text = utterance.written
            if text == utterance.text and text.isupper():
                text, note = text.lower(), "capitals alone: trained on in small letters"
        else:
            text = utterance.text or utterance.written
            if text != text.lower():
                text, note = text.lower(), "capitals: the vocabulary has small letters"
        lacking = self.pieces.lacking(text)
        if lacking:
            return Verdict(utterance, f"letters that the vocabulary lacks ({lacking})")
        tokens = self.pieces.encode(text) or [] if text else []
        # Equal tokens that follow each other need a blank between them.
        needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
        if needed > utterance.duration * SAMPLE_RATE / self.frame:
            return Verdict(utterance, "more text than frames")
        return Verdict(dataclasses.replace(utterance, text=text), note=note)

    def losses(self, batch: FrameBatch) -> StepLosses:
        """The CTC loss a token."""
        logits, lengths_B = self.logits(batch.features, batch.lengths_B)
        loss = ctc_loss_of(logits.float().log_softmax(dim=-1), lengths_B, batch.labels, self.blank)
        return StepLosses(loss, {"ctc_loss": loss})

    def recognise(self, waves: Sequence[Wave], languages: Sequence[str]) -> dict[str, list[str]]:
        """Greedy texts."""
        features, lengths_B = self.features(waves)
        logits, lengths_B = self.logits(features.to(self.device), lengths_B.to(self.device))
        return {"wer": [self.pieces.decode(tokens) for tokens in ctc.greedy(logits, lengths_B, self.blank)]}

    def save(self, directory: Path) -> None:
        """Write a folder of transformers in float32."""
        write_published(directory, self.names.published(self.merged()), companions(self.directory))


class ConformerTrainee(_FrameTrainee):
    """Parakeet CTC in a folder of transformers.

    Arguments:
        directory: to start from.
        config: of the run.

    Raises:
        CheckpointError: when a file is missing or damaged, or the model writes with a transducer.
    """

    family = "conformer"
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    network: Conformer

    def __init__(self, directory: Path, config: TrainConfig) -> None:
        if not (directory / conformer.CONFIG_FILE).exists():
            raise CheckpointError(
                f"{directory}: .nemo archives cannot be trained from; take the folder that transformers reads"
            )
        sizes, pieces, source = conformer.open_folder(directory)
        if sizes.kind != "ctc":
            raise CheckpointError(
                f"{directory}: writes with a transducer, whose loss is not here; fine-tune a CTC model (parakeet_ctc)"
            )
        with only_shapes():
            network = Conformer(sizes)
        shapes = conformer_weights.published_shapes(sizes)
        name = conformer_weights.published_name
        super().__init__(
            directory, network, source, pieces, name, shapes, config, blank=sizes.blank, frame=sizes.frame
        )  # fmt: skip

    def features(self, waves: Sequence[Wave]) -> tuple[Tensor, Tensor]:
        """NeMo's front end."""
        sizes = self.network.config
        return normalised_log_mel(waves, n_mels=sizes.encoder.n_mels, preemphasis=sizes.preemphasis)

    def logits(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Of the CTC head, and the frames that count."""
        encoded, lengths_B = self.network.encoder(features, lengths_B)
        assert self.network.ctc_head is not None
        return self.network.ctc_head(encoded), lengths_B


class GraniteTrainee(_FrameTrainee):
    """Granite Speech CTC in a folder of transformers.

    Arguments:
        directory: to start from.
        config: of the run.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """

    family = "granite"
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    network: Granite

    def __init__(self, directory: Path, config: TrainConfig) -> None:
        sizes, pieces, source = granite.open_folder(directory)
        with only_shapes():
            network = Granite(sizes)
        shapes = granite_weights.published_shapes(sizes)
        name = granite_weights.published_name
        super().__init__(
            directory, network, source, pieces, name, shapes, config, blank=sizes.blank, frame=sizes.frame
        )  # fmt: skip

    def features(self, waves: Sequence[Wave]) -> tuple[Tensor, Tensor]:
        """Granite's front end."""
        return stacked_log_mel(waves, n_mels=self.network.config.n_mels)

    def logits(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Of the CTC head, and the frames that count."""
        encoded, lengths_B = self.network.encode(features, lengths_B)
        return self.network.logits(encoded), lengths_B
