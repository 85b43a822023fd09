"""From a batch of segments to what is written of each, by Nemotron 3.5 Transcribe.

Shapes: B segments, N positions of all prompts, L positions of a segment, D the encoder's width, O the language model's
width, C classes of the CTC head.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.audio.conformer_features import plain_log_mel
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.features import HOP_LENGTH
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.decoding.frames import placed_words
from fun_asr.decoding.prefixed import PrefixedOptions, written_after
from fun_asr.decoding.search import Hypothesis
from fun_asr.errors import ConfigError
from fun_asr.layers.hybrid_lm import HybridLM, HybridLMConfig, LayerKind
from fun_asr.models.cost import Cost, count_cost
from fun_asr.models.nemotron.load import load_network, read_config, read_filters
from fun_asr.models.nemotron.network import Nemotron
from fun_asr.models.nemotron.prompt import REQUEST, Prompts, Turn, check_vocabulary, turns_of
from fun_asr.models.nemotron.times import timed_words
from fun_asr.models.plain import PlainRecogniser
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.models.qwen_tokenizer import QwenTokenizer
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.text.languages import LANGUAGE_NAMES
from fun_asr.text.scripts import language_of_script, written_units
from fun_asr.transcript import Word
from fun_asr.weights.load import describe_network, only_shapes
from fun_asr.weights.precision import resolve_compute_type, resolve_devices

__all__ = ["NemotronRecogniser", "describe", "is_own", "load"]

FAMILY = "nemotron"
ALIGNMENT_FOLDER = "alignment_tokenizer"
COSTED_SECONDS = 30.0
BEAM_MARGIN = 2.0  # nats, as for the bundled model
TOKENS_PER_SECOND = 16  # of speech: twice what the fastest speakers need
FEWEST_TOKENS = 64
PROMPT_TOKENS = 48  # of the plain request


class NemotronRecogniser(PlainRecogniser):
    """Recognises the segments of one batch at a time, and keeps nothing of them.

    Arguments:
        network: ready for inference.
        tokenizer: the language model's.
        alignment: the CTC head's vocabulary; None where words have no times.
        filters: what the front end's filters are rounded to.
        device: the network's.

    Raises:
        CheckpointError: when a vocabulary is another model's.
    """

    def __init__(
        self,
        network: Nemotron,
        tokenizer: QwenTokenizer,
        alignment: QwenTokenizer | None,
        filters: torch.dtype,
        device: torch.device,
    ) -> None:
        self.network = network
        self._alignment, self._filters, self._device = alignment, filters, device
        check_vocabulary(tokenizer, network.config.text.vocab_size)
        if alignment is not None:
            check_vocabulary(alignment, network.config.aligner.blank)
        self._prompts, self._tokenizer = Prompts(tokenizer), tokenizer
        silent = tuple(token for token in self._prompts.silent if token < network.config.text.vocab_size)
        self._search = PrefixedOptions(stop=self._prompts.stop, suppress=silent, margin=BEAM_MARGIN)
        notes = () if alignment is not None else (f"no word times: the folder has no {ALIGNMENT_FOLDER}",)
        self._info = replace(describe_network(network, FAMILY), notes=notes)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of all languages: it is not told which it hears; what is given counts for what its text becomes."""
        return tuple(LANGUAGE_NAMES)

    @property
    def segment_seconds(self) -> float:
        """The longest segment that both encoders read at once."""
        config = self.network.config
        return config.longest * config.stacked * HOP_LENGTH / SAMPLE_RATE

    def prepare(self, options: TranscriptionOptions) -> None:
        """Find out before the first segment whether the options can be used with this model.

        Raises:
            ConfigError: for CTC decoding, for drawing at random, and for hotwords.
        """
        if options.decoding != "generate":
            raise ConfigError(f"decoding {options.decoding}: this model's CTC head only finds the times of words")
        if options.temperature_fallback:
            raise ConfigError("temperature_fallback: this model's search draws nothing at random")
        if options.hotwords:
            raise ConfigError("hotwords: this model takes words to expect in its request, which initial_prompt is")

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
            languages: the code of each; the model is not told.
            options: how; their language does not count.
            priors: not asked, since it detects no languages.

        Returns:
            what was recognised of each segment, in their order.
        """
        results = [RecognisedSegment(language=language) for language in languages]
        # What is shorter than a frame says nothing.
        places = [i for i, segment in enumerate(segments) if len(segment.samples) >= HOP_LENGTH]
        if not places:
            return results
        heard = [self.encode(segments[i]) for i in places]
        found = self._written([segments[i] for i in places], [vectors for vectors, _ in heard], options)
        for i, (_, speech), (hypothesis, looped) in zip(places, heard, found, strict=True):
            turns = turns_of(self._prompts.text(hypothesis.tokens))
            text = " ".join(turn.text for turn in turns)
            language = languages[i] or language_of_script(text)
            if not text:
                results[i] = RecognisedSegment(language=language, looped=looped)
                continue
            words = self._words(segments[i], turns, speech) if options.word_times else ()
            speakers = list(dict.fromkeys(turn.speaker for turn in turns if turn.speaker is not None))
            results[i] = RecognisedSegment(
                language=language,
                text=text,
                spoken=text,
                score=hypothesis.score,
                words=words,
                word_times=bool(words),
                looped=looped,
                tags={"speakers": ",".join(speakers)} if speakers else {},
            )
        return results

    def encode(self, segment: AudioSegment) -> tuple[Tensor, Tensor]:
        """What the language model reads of a segment, `[L, O]`, and what the CTC head reads, `[L, D]`."""
        config = self.network.config
        frames = plain_log_mel(segment.samples, n_mels=config.n_mels, filters=self._filters, device=self._device)
        ((vectors, speech, _),) = self.network.encode([frames])
        return vectors, speech

    def prefix(self, vectors: Tensor, options: TranscriptionOptions) -> Tensor:
        """The prompt of a segment with its speech in it, `[N, O]`."""
        before, after = (
            self.network.language_model.embed(torch.tensor(tokens, device=self._device))
            for tokens in self._prompts.around(options.initial_prompt or REQUEST)
        )
        return torch.cat([before, vectors.to(before.dtype), after])

    def _written(
        self, segments: Sequence[AudioSegment], vectors: Sequence[Tensor], options: TranscriptionOptions
    ) -> list[tuple[Hypothesis, bool]]:
        """What is written of each segment, and whether the model got caught in a loop."""
        prefixes = [self.prefix(part, options) for part in vectors]
        limits = [FEWEST_TOKENS + TOKENS_PER_SECOND * len(segment.samples) // SAMPLE_RATE for segment in segments]
        search = replace(self._search, beam_size=options.beam_size)
        model = self.network.language_model
        return written_after(model, prefixes, limits, search, self._prompts.text, guard=options.guard)

    def _words(self, segment: AudioSegment, turns: Sequence[Turn], speech: Tensor) -> tuple[Word, ...]:
        if self._alignment is None:
            return ()
        log_probs = self.network.aligner(speech).float().log_softmax(dim=-1)
        frame = HOP_LENGTH * self.network.config.stacked // self.network.config.aligner.upsampling
        blank, samples = self.network.config.aligner.blank, len(segment.samples)
        text = " ".join(turn.text for turn in turns)
        timed = timed_words(text, log_probs, self._alignment, blank, frame, samples)
        ends = list(accumulate(len(turn.text) + 1 for turn in turns))
        speakers = [turns[bisect_right(ends, first)].speaker for first, _ in written_units(text)]
        words = placed_words(timed, segment.span.start)
        return tuple(replace(word, speaker=speaker) for word, speaker in zip(words, speakers, strict=False))


def describe(path: Path, tokens_per_second: float) -> Cost:
    """What a published model costs.

    Arguments:
        path: what `load` takes.
        tokens_per_second: that it writes.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """
    config = read_config(path)
    with only_shapes():
        network, counted = Nemotron(config), HybridLM(_dense(config.text))
    for module in (network, counted):
        module.to("meta")
    positions = round(COSTED_SECONDS * SAMPLE_RATE / HOP_LENGTH / config.stacked)
    frames = torch.empty(positions * config.stacked, config.n_mels, device="meta")
    speech = torch.empty(positions, config.speech.dim, device="meta")
    written = max(1, round(tokens_per_second * COSTED_SECONDS))
    read = PROMPT_TOKENS + positions + written
    vectors = torch.empty(read, config.text.dim, device="meta")
    return count_cost(
        network,
        FAMILY,
        {
            "encoder": lambda: network.project(network.encoder(frames)),
            "speaker_encoder": lambda: network.speaker_encoder(frames),
            # Of a text that is written token by token the products are those of one that is read.
            "language_model": lambda: counted.logits(counted(vectors, [read])[-written:]),
            "aligner": lambda: network.aligner(speech),
        },
        segment_seconds=COSTED_SECONDS,
        tokens_per_second=tokens_per_second,
        part_of=_part_of,
    )


def _dense(config: HybridLMConfig) -> HybridLMConfig:
    """A model without routed experts in which a token passes as many multiplications, but for the routers'."""
    experts, dense = config.layers.count("experts"), config.layers.count("dense")
    met = experts * (config.shared_dim + config.num_experts_per_token * config.expert_dim) + dense * config.ffn_dim
    layers: tuple[LayerKind, ...] = tuple("dense" if kind == "experts" else kind for kind in config.layers)
    return replace(config, layers=layers, ffn_dim=max(1, met // max(1, experts + dense)))


def _part_of(name: str) -> str:
    part = name.partition(".")[0]
    return part if part in ("speaker_encoder", "language_model", "aligner") else "encoder"


def is_own(path: Path) -> bool:
    """A folder of this family always says so in its `config.json`."""
    return False


def load(options: ModelOptions) -> NemotronRecogniser:
    """Load a published model.

    Arguments:
        options: whose directory holds the weights, `config.json` and the vocabulary.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
        ConfigError: for a device or compute type that is not available.
    """
    assert options.directory is not None
    folder, devices = Path(options.directory), resolve_devices(options.device)
    compute_type = resolve_compute_type(options.compute_type, devices[0], int4=True)
    tokenizer, filters = QwenTokenizer(folder), read_filters(folder)
    alignment = QwenTokenizer(folder / ALIGNMENT_FOLDER) if (folder / ALIGNMENT_FOLDER).is_dir() else None
    network = load_network(folder, devices, compute_type)
    return NemotronRecogniser(network, tokenizer, alignment, filters, devices[0])
