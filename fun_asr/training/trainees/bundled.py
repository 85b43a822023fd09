"""The bundled family in training: joint loss, extra updates of the CTC head, balanced experts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fun_asr.audio.features import log_mel
from fun_asr.convert.whisper import NEW_MODULES
from fun_asr.decoding import ctc
from fun_asr.decoding.generate import generate
from fun_asr.models.fun_asr.load import build_model, load_config
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.training.acoustics import Wave
from fun_asr.training.config import FEWEST_KEPT_PER_REPLAY, OptimizerConfig, TrainConfig
from fun_asr.training.data import Batch, Collator, Utterance
from fun_asr.training.losses import Losses, joint_loss
from fun_asr.training.replay import EncodedReplay
from fun_asr.training.trainees.protocol import StepLosses, Trainee, Verdict
from fun_asr.weights.directory import CTC_TOKENIZER_FILE, TOKENIZER_FILE, companion_files, load_stored, save_model
from fun_asr.weights.int8 import dequantize
from fun_asr.weights.published import PublishedNames

__all__ = ["BundledTrainee"]

REPLAY_FILE = "replay.safetensors"


class BundledTrainee(Trainee):
    """A model directory of the bundled family.

    Arguments:
        directory: to start from.
        config: of the run.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """

    family = "fun_asr"
    targets = ("attention",)
    network: FunASR

    def __init__(self, directory: Path, config: TrainConfig) -> None:
        self.companions = companion_files(directory)
        self.tokenizer = Tokenizer(directory / TOKENIZER_FILE)
        self.ctc_tokenizer = CTCTokenizer(directory / CTC_TOKENIZER_FILE)
        network = build_model(load_config(directory), dequantize(load_stored(directory)), str(directory))
        super().__init__(network, PublishedNames({name: (name,) for name in network.state_dict()}), config)
        self.replay = EncodedReplay(config.ctc_replay_batches, config.ctc_replay_dropout)
        self._seen: list[tuple[Batch, Losses]] = []
        self._taught = False

    def reader(self) -> Collator:
        """What makes batches of planned utterances."""
        return Collator(
            self.tokenizer,
            self.ctc_tokenizer,
            n_mels=self.network.config.encoder.n_mels,
            max_tokens=self.network.config.decoder.max_tokens,
            max_seconds=self.longest_seconds,
            train_language=self.config.train_language,
            views=2 if self.config.ctc_consistency_weight else 1,
        )

    def knows(self, language: str) -> bool:
        """Whether the decoder can be told this language."""
        return language in self.tokenizer.languages

    def judge(self, utterance: Utterance) -> Verdict:
        """Whether an utterance's language and text can be trained on."""
        if not self.knows(utterance.language):
            return Verdict(utterance, f"the model has no language {utterance.language}")
        note = ""
        if utterance.text and utterance.trains_ctc:
            spoken = utterance.text.lower()
            lacking = self.ctc_tokenizer.lacking(spoken)
            if lacking and utterance.language not in self.network.config.ctc.languages and utterance.trains_decoder:
                utterance = dataclasses.replace(utterance, trains_ctc=False)
                note = f"trains the decoder alone: the CTC head does not write {utterance.language}"
            elif lacking:
                return Verdict(utterance, f"letters that the CTC head does not write ({lacking})")
            elif spoken != utterance.text:
                note = "capitals in text: the CTC head is trained on small letters"
                # Formatted text is the decoder's: capitals alone would teach it to shout.
                shouted = utterance.written == utterance.text and utterance.text.isupper()
                written = spoken if shouted else utterance.written
                utterance = dataclasses.replace(utterance, text=spoken, written=written)
        most = self.network.config.decoder.max_tokens - len(self.tokenizer.prompt(utterance.language))
        if utterance.trains_decoder and len(self.tokenizer.encode(utterance.written)) > most:
            return Verdict(utterance, f"more than the decoder's {most} tokens of text")
        return Verdict(utterance, note=note)

    def losses(self, batch: Batch) -> StepLosses:
        """The joint loss of a batch."""
        found = joint_loss(
            self.network,
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
        if self.config.ctc_replay:
            self._seen.append((batch, found))
        shown = {"decoder_loss": found.decoder, "ctc_loss": found.ctc}
        if self._taught:
            shown |= {"frames_loss": found.frames, "tokens_loss": found.tokens}
        return StepLosses(found.total, shown)

    def expect(self, *, taught: bool) -> None:
        """Be told before the run whether any utterance has a teacher: the columns of `log.csv` stay the same."""
        self._taught = taught

    def balance(self, combine: Callable[[Tensor], None]) -> None:
        """Move the routers' biases towards an even load; with LoRA they stay, as the adapter has no place for them."""
        if self.config.lora.rank:
            return
        for router in self.network.decoder.routers():
            combine(router.load_E)
            router.rebalance(self.config.balance_rate)

    def after_update(self, step: int) -> Iterator[Tensor]:
        """Losses of the CTC head on encoder outputs of recent steps."""
        if not self.config.ctc_replay:
            return
        for batch, found in self._seen:
            self.replay.add(batch, found)
        self._seen.clear()
        rng = np.random.default_rng([self.config.seed, 1, step])
        # The generator of the replay's dropout: a resumed run must draw what an uninterrupted one draws.
        torch.manual_seed(self.config.seed + step)
        for _ in range(min(self.config.ctc_replay, len(self.replay) // FEWEST_KEPT_PER_REPLAY)):
            yield self.replay.loss(self.network.ctc, self.device, rng)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The kept encoder outputs."""
        return {REPLAY_FILE: self.replay.state_dict()}

    def load_state(self, read: Callable[[str], dict[str, Tensor]]) -> None:
        """The inverse of `state`."""
        self.replay.load_state_dict(read(REPLAY_FILE))

    def recognise(self, waves: Sequence[Wave], languages: Sequence[str]) -> dict[str, list[str]]:
        """Greedy texts of the decoder and of the CTC head alone."""
        features = log_mel(waves, n_mels=self.network.config.encoder.n_mels, device=self.device)
        encoded, lengths_B = self.network.encode(*features)
        hypotheses = generate(self.network.decoder, encoded, lengths_B, self.tokenizer, languages)
        log_probs, ctc_lengths_B = self.network.ctc(encoded, lengths_B)
        spoken = ctc.greedy(log_probs, ctc_lengths_B, self.ctc_tokenizer.blank)
        return {
            "wer": [self.tokenizer.decode(found.tokens) for found in hypotheses],
            "ctc_wer": [self.ctc_tokenizer.decode(tokens) for tokens in spoken],
        }

    def peak(self, name: str, optimizer: OptimizerConfig) -> float:
        """The CTC head, and what Whisper lacks, learn at rates of their own; what LoRA adds at the common one."""
        if ".lora_" in name:
            return optimizer.learning_rate
        if name.startswith("ctc."):
            return optimizer.ctc_learning_rate
        return optimizer.new_learning_rate if any(part in name for part in NEW_MODULES) else optimizer.learning_rate

    def save(self, directory: Path) -> None:
        """Write a float32 model directory."""
        save_model(directory, self.network.config, self.merged(), self.companions, int8=False)
