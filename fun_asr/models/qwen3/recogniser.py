"""From a batch of segments to what is written of each, by Qwen3-ASR or the thinker of Qwen3-Omni.

Qwen3-ASR writes the language of what it hears before the text, "None" where nobody speaks: that keeps invented text
out. Qwen3-Omni is asked for a transcript in words, and says nothing of the language.

Shapes: B segments, N positions of all of them, O the language model's width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.decoding.generate import TOKENS_PER_SECOND
from fun_asr.decoding.guard import BLOCKED_NGRAM, cut_loops, is_repetitive, without_loops
from fun_asr.decoding.prefixed import PrefixedOptions, continue_from
from fun_asr.decoding.search import Hypothesis
from fun_asr.decoding.spoken_language import SpokenLanguage, likeliest_language
from fun_asr.decoding.words import AlignedWord, written_words
from fun_asr.drafts import Draft
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.layers.causal_lm import CausalLM, CausalLMConfig
from fun_asr.models.cost import Cost, count_cost
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.models.qwen3.aligner import ALIGNED_LANGUAGES, ForcedAligner, load_aligner, word_units
from fun_asr.models.qwen3.features import clip_log_mel
from fun_asr.models.qwen3.load import load_network, read_config
from fun_asr.models.qwen3.network import Qwen3
from fun_asr.models.qwen3.prompts import AsrPrompts, OmniPrompts, Prompt, Prompts
from fun_asr.models.qwen_tokenizer import QwenTokenizer
from fun_asr.models.runs import encoder_runs
from fun_asr.options import ModelOptions, Task, TranscriptionOptions
from fun_asr.transcript import ModelInfo, Word
from fun_asr.weights.assemble import language_model_compute_type
from fun_asr.weights.load import describe_network, only_shapes
from fun_asr.weights.precision import resolve_devices
from fun_asr.weights.sources import open_safetensors

__all__ = ["Qwen3Recogniser", "describe", "is_own", "load"]

FAMILY = "qwen3"
SEGMENT_SECONDS = 30.0
BEAM_MARGIN = 2.0  # nats, as for the bundled model
SURE_SILENCE = 0.5  # of "None", where the language is given


def is_own(path: Path) -> bool:
    """A folder of this family always says so in its `config.json`."""
    return False


def load(options: ModelOptions) -> Qwen3Recogniser:
    """Load a published model.

    Arguments:
        options: whose directory holds the weights, `config.json` and the vocabulary.

    Raises:
        CheckpointError: when a file is missing or damaged, or the model is an aligner.
        ConfigError: for a device or compute type that is not available.
    """
    assert options.directory is not None
    folder, devices = Path(options.directory), resolve_devices(options.device)
    device = devices[0]
    read_config(folder)  # a folder of another kind is named before its weights are looked for
    compute_type = language_model_compute_type(options.compute_type, device, open_safetensors(folder))
    network = load_network(folder, devices, compute_type)
    if network.score is not None:
        raise CheckpointError(f"{folder}: is a forced aligner, which writes no text; give it as the aligner")
    aligner = None if options.aligner is None else load_aligner(Path(options.aligner), device, options.compute_type)
    return Qwen3Recogniser(network, QwenTokenizer(folder), device, aligner)


def describe(path: Path, tokens_per_second: float) -> Cost:
    """What a published model costs.

    Arguments:
        path: what `load` takes.
        tokens_per_second: that the language model reads and writes of text.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """
    config = read_config(path)
    with only_shapes():
        network, counted = Qwen3(config), CausalLM(_dense(config.text))
    for module in (network, counted):
        module.to("meta")
    clip = torch.empty(config.audio.n_mels, round(100 * SEGMENT_SECONDS), device="meta")
    audio = network.encoder.count(clip.shape[1])
    text = max(1, round(tokens_per_second * SEGMENT_SECONDS))
    prefix = torch.empty(audio + text, config.text.dim, device="meta")
    return count_cost(
        network,
        FAMILY,
        {
            "encoder": lambda: network.encoder([clip]),
            # Of a text that is written token by token the products are those of one that is read.
            "language_model": lambda: counted.logits(counted(prefix, [audio + text])[-text:]),
        },
        segment_seconds=SEGMENT_SECONDS,
        tokens_per_second=tokens_per_second,
    )


def _dense(config: CausalLMConfig) -> CausalLMConfig:
    """A model without experts in which a token passes as many multiplications, but for the routers'."""
    sparse = sum(config.has_experts(layer) for layer in range(config.num_layers))
    chosen = sparse * config.num_experts_per_token * config.expert_dim
    ffn_dim = (chosen + (config.num_layers - sparse) * config.ffn_dim) // config.num_layers
    return replace(config, num_experts=0, dense_layers=(), ffn_dim=max(1, ffn_dim))


class Qwen3Recogniser:
    """Recognises the segments of one batch at a time, and keeps nothing of them.

    Arguments:
        network: the model.
        tokenizer: its.
        device: the network's.
        aligner: finds when words are said; None leaves them without times.

    Raises:
        CheckpointError: when the vocabulary is another model's.
    """

    def __init__(
        self, network: Qwen3, tokenizer: QwenTokenizer, device: torch.device, aligner: ForcedAligner | None = None
    ) -> None:
        self.network = network
        self._tokenizer, self._device, self._aligner = tokenizer, device, aligner
        self._asr = AsrPrompts(tokenizer) if network.config.kind == "asr" else None
        self._omni = OmniPrompts(tokenizer) if network.config.kind == "omni" else None
        size = network.config.text.vocab_size
        if len(tokenizer) > size:
            raise CheckpointError(f"the vocabulary has {len(tokenizer)} tokens, the model {size}: it is another one's")

    @property
    def _prompts(self) -> Prompts:
        found = self._asr or self._omni
        assert found is not None
        return found

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it computes with on this machine."""
        return describe_network(self.network, FAMILY)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it knows."""
        return tuple(self._prompts.languages)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Only Qwen3-Omni translates."""
        return ("transcribe",) if self._omni is None else ("transcribe", "translate")

    @property
    def detects_languages(self) -> bool:
        """Only Qwen3-ASR says which it hears."""
        return self._asr is not None

    @property
    def segment_seconds(self) -> float:
        """The longest segment that is asked of it; it takes longer ones, in more memory."""
        return SEGMENT_SECONDS

    def prepare(self, options: TranscriptionOptions) -> None:
        """Find out before the first segment whether the options can be used with this model.

        Raises:
            ConfigError: for CTC decoding or random draws, and for a context that the model does not take.
        """
        if options.decoding != "generate":
            raise ConfigError(f"decoding {options.decoding}: this model has no CTC head")
        if options.temperature_fallback:
            raise ConfigError("temperature_fallback: this model's search draws nothing at random")
        if self._asr is None and (options.hotwords or options.initial_prompt):
            raise ConfigError("hotwords and initial_prompt: this model takes no text beside what it is asked")

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
            segments: at least one, each with samples.
            languages: the code of each; None detects it where the model can.
            options: how; their language does not count.
            priors: what another segment of the recording of each says of its language; None where there is none.

        Returns:
            what was recognised of each segment, in their order; no text where nobody seems to speak.
        """
        prefixes = self._prefixes(segments, languages, options)
        model = self.network.language_model
        lengths = [len(prefix) for prefix in prefixes]
        logits, cache = model.start(torch.cat(prefixes), lengths)
        spoken: list[SpokenLanguage | None]
        if self._asr is None:
            spoken = [SpokenLanguage(language or "") for language in languages]
        else:
            spoken = self._spoken(logits, languages, options, priors or [None] * len(segments))
        search = PrefixedOptions(
            stop=self._prompts.stop,
            suppress=tuple(range(len(self._tokenizer), self.network.config.text.vocab_size)),
            beam_size=options.beam_size,
            margin=BEAM_MARGIN,
            openings=self._openings(spoken),
        )
        limits = [self._limit(segment) for segment in segments]
        hypotheses = [
            self._after_opening(found, language)
            for found, language in zip(continue_from(model, logits, cache, limits, search), spoken, strict=True)
        ]

        def again(places: list[int]) -> list[Hypothesis]:
            chosen = [spoken[b] for b in places]
            other = replace(search, beam_size=1, no_repeat_ngram=BLOCKED_NGRAM, openings=self._openings(chosen))
            started = model.start(torch.cat([prefixes[b] for b in places]), [lengths[b] for b in places])
            found = continue_from(model, *started, [limits[b] for b in places], other)
            return [self._after_opening(one, language) for one, language in zip(found, chosen, strict=True)]

        if options.guard:
            hypotheses, looped = without_loops(
                hypotheses, again, lambda tokens: is_repetitive(self._tokenizer.decode(tokens))
            )
        else:
            looped = [cut_loops(found.tokens)[1] for found in hypotheses]
        drafts = [
            None if language is None or not found.tokens else self._draft(found, language, had_loop)
            for found, language, had_loop in zip(hypotheses, spoken, looped, strict=True)
        ]
        drafts = self._timed(segments, drafts, options)
        return [
            RecognisedSegment(language=given, looped=had_loop)
            if draft is None
            else self._finished(segment, draft, options)
            for segment, draft, given, had_loop in zip(segments, drafts, languages, looped, strict=True)
        ]

    def _limit(self, segment: AudioSegment) -> int:
        longest_opening = 8
        return int(longest_opening + 8 + TOKENS_PER_SECOND * len(segment.samples) / SAMPLE_RATE)

    def _prefixes(
        self, segments: Sequence[AudioSegment], languages: Sequence[str | None], options: TranscriptionOptions
    ) -> list[Tensor]:
        """Vectors `[positions, O]` of what the language model reads of each segment."""
        prompts = [self._prompt(language, options) for language in languages]
        model = self.network.language_model
        found = []
        for vectors, prompt in zip(self.encode(segments), prompts, strict=True):
            text = model.embed(torch.tensor([*prompt.before, *prompt.after], device=self._device))
            before = len(prompt.before)
            found.append(torch.cat((text[:before], vectors.to(text.dtype), text[before:])))
        return found

    def _prompt(self, language: str | None, options: TranscriptionOptions) -> Prompt:
        if self._omni is not None:
            return self._omni.prompt(language, options.task)
        assert self._asr is not None
        return self._asr.prompt(options)

    def encode(self, segments: Sequence[AudioSegment]) -> list[Tensor]:
        """What the encoder says of each segment, `[positions, O]`."""
        n_mels = self.network.config.audio.n_mels
        found: dict[int, Tensor] = {}
        samples = {b: len(segment.samples) for b, segment in enumerate(segments)}
        for run in encoder_runs(samples, self._device):
            clips = [clip_log_mel(segments[b].samples, n_mels=n_mels, device=self._device) for b in run]
            vectors, counts = self.network.encoder(clips)
            found.update(zip(run, vectors.split(counts), strict=True))
        return [found[b] for b in range(len(segments))]

    def _spoken(
        self,
        logits: Tensor,
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None],
    ) -> list[SpokenLanguage | None]:
        """The language of each segment, from the logits `[B, V]` after "language"; None where nobody speaks."""
        assert self._asr is not None
        firsts = self._asr.first_tokens()
        codes = [code for code in firsts if code is not None]
        columns = torch.tensor([firsts[code] for code in (*codes, None)], device=logits.device)
        found: list[SpokenLanguage | None] = []
        for row, given, prior in zip(logits[:, columns].softmax(dim=-1).tolist(), languages, priors, strict=True):
            *shares, silence = row
            evidence = {code: p for code, p in zip(codes, shares, strict=True) if code in (options.languages or codes)}
            if options.guard and silence > (max(shares) if given is None else SURE_SILENCE):
                found.append(None)
            elif given is not None:
                found.append(SpokenLanguage(given))
            else:
                total = sum(evidence.values()) or 1.0
                evidence = {code: p / total for code, p in evidence.items()}
                found.append(SpokenLanguage(*likeliest_language(evidence, prior), evidence))
        return found

    def _openings(self, spoken: Sequence[SpokenLanguage | None]) -> list[tuple[int, ...]]:
        if self._asr is None:
            return [()] * len(spoken)
        # Where nobody speaks the text ends at once.
        ended = self._asr.stop[:1]
        return [ended if language is None else self._asr.opening(language.code) for language in spoken]

    def _after_opening(self, found: Hypothesis, language: SpokenLanguage | None) -> Hypothesis:
        """A hypothesis without what it was told to start with."""
        if self._asr is None or language is None:
            return found
        count = len(self._asr.opening(language.code))
        steps = len(found.tokens) + found.complete
        score = found.score * steps / max(1, steps - count)
        return replace(found, tokens=found.tokens[count:], log_probs=found.log_probs[count:], score=score)

    def _draft(self, found: Hypothesis, language: SpokenLanguage, looped: bool) -> Draft | None:
        words = written_words(self._tokenizer, found.tokens, found.log_probs)
        if not words:
            return None
        code = language.code or None
        return Draft(
            words,
            score=found.score,
            language=code,
            language_probability=language.probability,
            language_evidence=language.evidence,
            looped=looped,
        )

    def _timed(
        self, segments: Sequence[AudioSegment], drafts: Sequence[Draft | None], options: TranscriptionOptions
    ) -> list[Draft | None]:
        """The drafts with their words' places, where there is an aligner that knows the language."""
        found = list(drafts)
        aligner = self._aligner
        if aligner is None or not options.word_times or options.task == "translate":
            return found
        units = {
            b: [word_units(word.text) for word in draft.words]
            for b, draft in enumerate(drafts)
            if draft is not None and (draft.language is None or draft.language in ALIGNED_LANGUAGES)
        }
        units = {b: rows for b, rows in units.items() if any(rows)}
        if not units:
            return found
        waves = [np.asarray(segments[b].samples, np.float32) for b in units]
        times = aligner.times(waves, [[unit for row in rows for unit in row] for rows in units.values()])
        for (b, rows), places in zip(units.items(), times, strict=True):
            draft = drafts[b]
            assert draft is not None
            timed, first, here = [], 0, 0
            for word, row in zip(draft.words, rows, strict=True):
                own = places[first : first + len(row)]
                first += len(row)
                start, here = (max(here, own[0][0]), max(here, own[-1][1])) if own else (here, here)
                timed.append(AlignedWord(word.text, start, here, word.log_probs, ()))
            found[b] = draft.with_times(timed, len(timed))
        return found

    def _finished(self, segment: AudioSegment, draft: Draft, options: TranscriptionOptions) -> RecognisedSegment:
        written = draft.formatted("en" if options.task == "translate" else draft.language, None, itn=options.itn)
        start = segment.span.start
        return RecognisedSegment(
            language=draft.language,
            language_probability=draft.language_probability,
            language_evidence=draft.language_evidence,
            text=written.text,
            spoken=draft.text,
            score=draft.score,
            words=tuple(
                Word(
                    text=word.text,
                    start=(start + word.start) / SAMPLE_RATE,
                    end=(start + word.end) / SAMPLE_RATE,
                    confidence=float(Tensor(word.log_probs).exp().mean()) if word.log_probs else None,
                )
                for word in written.timed or ()
            ),
            word_times=written.timed is not None,
            looped=draft.looped,
        )
