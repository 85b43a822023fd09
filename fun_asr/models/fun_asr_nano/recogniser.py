"""From a batch of segments to what is written of each, by Fun-ASR-Nano: encode, write after a prompt, find word times.

Shapes: B segments, L frames of 60 ms, N positions of all prompts, D the language model's width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.kaldi_features import FRAME, stacked_fbank
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.decoding.frames import placed_words
from fun_asr.decoding.prefixed import PrefixedOptions, written_after
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.models.cost import Cost, count_cost
from fun_asr.models.fun_asr_nano.config import MODEL, MODEL_TYPE
from fun_asr.models.fun_asr_nano.load import CONFIG_FILE, load_network, open_checkpoint, read_network_config
from fun_asr.models.fun_asr_nano.network import Nano
from fun_asr.models.fun_asr_nano.prompt import LANGUAGE_NAMES, prompt
from fun_asr.models.fun_asr_nano.times import ctc_text, timed_words
from fun_asr.models.plain import PlainRecogniser
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.models.qwen_tokenizer import QwenTokenizer
from fun_asr.models.runs import encoder_runs, of_few_lengths
from fun_asr.models.sanm.checkpoint import upstream_model
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.text.ranked_bpe import RankedBPE
from fun_asr.text.scripts import language_of_script
from fun_asr.transcript import Word
from fun_asr.weights.assemble import language_model_compute_type
from fun_asr.weights.load import describe_network, only_shapes
from fun_asr.weights.precision import resolve_device
from fun_asr.weights.sources import read_json

__all__ = ["NanoRecogniser", "describe", "is_own", "load"]

FAMILY = "fun_asr_nano"
FRAMES_APART = 8  # frames of 60 ms by which lengths of runs differ at least
SEGMENT_SECONDS = 30.0
BEAM_MARGIN = 2.0  # nats, as for the bundled model
MOST_TOKENS = 512  # of a text, as upstream
TOKENS_PER_SECOND = 16  # of speech: twice what the fastest speakers need
FEWEST_TOKENS = 64
PROMPT_TOKENS = 24  # of the plain prompt


class NanoRecogniser(PlainRecogniser):
    """Recognises the segments of one batch at a time, and keeps nothing of them.

    Arguments:
        network: ready for inference.
        tokenizer: the language model's.
        stop: tokens that end a text.
        ctc_tokenizer: the CTC branch's; None where words have no times.
        notes: what is to be said of the model.
        device: the network's.
    """

    def __init__(
        self,
        network: Nano,
        tokenizer: QwenTokenizer,
        stop: tuple[int, ...],
        ctc_tokenizer: RankedBPE | None,
        notes: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self.network = network
        self._tokenizer, self._ctc_tokenizer, self._device = tokenizer, ctc_tokenizer, device
        self._search = PrefixedOptions(stop=stop, margin=BEAM_MARGIN)
        self._info = replace(describe_network(network, FAMILY), notes=notes)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it can be told of."""
        return tuple(LANGUAGE_NAMES)

    @property
    def segment_seconds(self) -> float:
        """The longest segment that it takes, as in training."""
        return SEGMENT_SECONDS

    def prepare(self, options: TranscriptionOptions) -> None:
        """Find out before the first segment whether the options can be used with this model.

        Raises:
            ConfigError: for CTC decoding without a CTC branch, and for drawing at random.
        """
        if options.decoding == "ctc" and self._ctc_tokenizer is None:
            raise ConfigError("decoding ctc: these weights have no CTC branch, or its vocabulary is missing")
        if options.temperature_fallback:
            raise ConfigError("temperature_fallback: this model's search draws nothing at random")

    @torch.inference_mode()
    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        """Recognise segments, in one run of the language model.

        Arguments:
            segments: at least one, each with samples and none longer than `segment_seconds`.
            languages: the code of each; None leaves it open.
            options: how; their language does not count.
            priors: not asked, since it detects no languages.

        Returns:
            what was recognised of each segment, in their order.
        """
        results = [RecognisedSegment(language=language) for language in languages]
        # What is shorter than a frame says nothing.
        heard = self.encode({i: part for i, part in enumerate(segments) if len(part.samples) >= FRAME})
        places = sorted(heard)
        if not places:
            return results
        if options.decoding == "ctc":
            read = [ctc_text(self._ctc(heard[i]), *self._ctc_vocabulary()) for i in places]
            found = [(text, score, False) for text, score in read]
        else:
            found = self._written(segments, languages, {i: heard[i] for i in places}, options)
        for i, (text, score, looped) in zip(places, found, strict=True):
            language = languages[i] or language_of_script(text)
            if not text:
                results[i] = RecognisedSegment(language=language, looped=looped)
                continue
            words = self._words(segments[i], text, heard[i]) if options.word_times else ()
            results[i] = RecognisedSegment(
                language=language,
                text=text,
                spoken=text,
                score=score,
                words=words,
                word_times=bool(words),
                looped=looped,
            )
        return results

    def encode(self, segments: Mapping[int, AudioSegment]) -> dict[int, Tensor]:
        """The encoder's frames `[L, D]` of each segment."""
        config, found = self.network.config.encoder, {}
        for run in encoder_runs({i: len(segment.samples) for i, segment in segments.items()}, self._device):
            waves = [segments[i].samples for i in run]
            features, lengths_B = stacked_fbank(
                waves, n_mels=config.n_mels, stacked=config.stacked, device=self._device
            )
            encoded = self.network.encoder(of_few_lengths(features, FRAMES_APART, dim=1), lengths_B)
            found.update({i: row[:length] for i, row, length in zip(run, encoded, lengths_B.tolist(), strict=True)})
        return found

    def adapted(self, encoded: Tensor) -> Tensor:
        """What the language model reads of a segment's frames `[L, D]`."""
        length = torch.tensor([len(encoded)], device=self._device)
        vectors: Tensor = self.network.adaptor(encoded[None], length)[0]
        return vectors[: self.network.config.vectors(len(encoded))]

    def prompt(self, language: str | None, options: TranscriptionOptions) -> tuple[list[int], list[int]]:
        """The tokens before the speech and after it."""
        config = self.network.config
        before, after = prompt(
            language,
            itn=options.itn,
            hotwords=[phrase for phrase, _ in options.hotwords],
            context=options.initial_prompt,
            system=config.system_prompt,
            thinks=config.thinks,
        )
        return self._encoded(before), self._encoded(after)

    def _encoded(self, parts: Sequence[str]) -> list[int]:
        """Tokens of a prompt; a part that is no special token is text, whatever stands in it."""
        special = [self._tokenizer.find(part) for part in parts]
        return [
            token
            for part, number in zip(parts, special, strict=True)
            for token in (self._tokenizer.encode(part) if number is None else [number])
        ]

    def prefix(self, language: str | None, options: TranscriptionOptions, vectors: Tensor) -> Tensor:
        """The prompt of a segment with its speech in it, `[N, D]`."""
        before, after = (
            self.network.language_model.embed(torch.tensor(tokens, device=self._device))
            for tokens in self.prompt(language, options)
        )
        return torch.cat([before, vectors.to(before.dtype), after])

    def _written(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        heard: Mapping[int, Tensor],
        options: TranscriptionOptions,
    ) -> list[tuple[str, float, bool]]:
        """The text of each segment that was heard, its score, and whether the model got caught in a loop."""
        places = list(heard)
        prefixes = [self.prefix(languages[i], options, self.adapted(heard[i])) for i in places]
        limits = [
            min(MOST_TOKENS, FEWEST_TOKENS + TOKENS_PER_SECOND * len(segments[i].samples) // SAMPLE_RATE)
            for i in places
        ]
        search = replace(self._search, beam_size=options.beam_size)
        model = self.network.language_model
        found = written_after(model, prefixes, limits, search, self._text, guard=options.guard)
        return [(self._text(hypothesis.tokens), hypothesis.score, looped) for hypothesis, looped in found]

    def _text(self, tokens: Sequence[int]) -> str:
        """As upstream cleans it."""
        return re.sub(r"\s+", " ", self._tokenizer.decode(tokens).replace("/sil", " ")).strip()

    def _ctc_vocabulary(self) -> tuple[RankedBPE, int]:
        assert self._ctc_tokenizer is not None and self.network.config.ctc is not None
        return self._ctc_tokenizer, self.network.config.ctc.blank

    def _ctc(self, encoded: Tensor) -> Tensor:
        """Log-probabilities of the CTC branch in a segment."""
        length = torch.tensor([len(encoded)], device=self._device)
        return self.network.ctc_logits(encoded[None], length)[0].float().log_softmax(dim=-1)

    def _words(self, segment: AudioSegment, text: str, encoded: Tensor) -> tuple[Word, ...]:
        if self._ctc_tokenizer is None:
            return ()
        start = segment.span.start
        return placed_words(timed_words(text, self._ctc(encoded), *self._ctc_vocabulary(), len(segment.samples)), start)


def describe(path: Path, tokens_per_second: float) -> Cost:
    """What a published model costs.

    Arguments:
        path: what `load` takes.
        tokens_per_second: that it writes.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """
    config = read_network_config(path)
    with only_shapes():
        network = Nano(config)
    network.to("meta")
    frames = round(SEGMENT_SECONDS * SAMPLE_RATE / FRAME)
    features = torch.empty(1, frames, config.encoder.in_dim, device="meta")
    encoded = torch.empty(1, frames, config.encoder.dim, device="meta")
    lengths_B = torch.tensor([frames])
    written = round(tokens_per_second * SEGMENT_SECONDS)
    read = PROMPT_TOKENS + config.vectors(frames) + written
    vectors = torch.empty(read, config.language_model.dim, device="meta")

    def write() -> None:
        network.language_model.logits(network.language_model(vectors, [read])[:written])

    runs: dict[str, Callable[[], object]] = {
        "encoder": lambda: network.encoder(features, lengths_B),
        "adaptor": lambda: network.adaptor(encoded, lengths_B),
        "language_model": write,
    }
    if config.ctc is not None:
        runs["ctc"] = lambda: network.ctc_logits(encoded, lengths_B)
    return count_cost(
        network,
        FAMILY,
        runs,
        segment_seconds=SEGMENT_SECONDS,
        tokens_per_second=tokens_per_second,
        part_of=lambda name: "ctc" if name.startswith("ctc_") else name.partition(".")[0],
    )


def is_own(path: Path) -> bool:
    """Whether a path is a folder with a model of this family, of FunASR's or transformers' layout."""
    if not path.is_dir():
        return False
    if upstream_model(path) == MODEL:
        return True
    try:
        return read_json(path / CONFIG_FILE).get("model_type") == MODEL_TYPE
    except CheckpointError:
        return False


def load(options: ModelOptions) -> NanoRecogniser:
    """Load a model for inference.

    Arguments:
        options: whose directory is one for which `is_own` holds.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
        ConfigError: for a device or compute type that is not available.
    """
    assert options.directory is not None
    device = resolve_device(options.device)
    checkpoint = open_checkpoint(options.directory)
    compute_type = language_model_compute_type(options.compute_type, device, checkpoint.source)
    network = load_network(checkpoint, device, compute_type)
    return NanoRecogniser(
        network, checkpoint.tokenizer, checkpoint.stop, checkpoint.ctc_tokenizer, checkpoint.notes, device
    )
