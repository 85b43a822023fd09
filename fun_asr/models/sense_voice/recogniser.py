"""SenseVoice models in folders of FunASR, loaded to recognise segments.

Shapes: B segments, L frames, D width, C vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.kaldi_features import FRAME, stacked_fbank
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.decoding.frames import Emission, emitted_words, placed_words
from fun_asr.decoding.spoken_language import SpokenLanguage, likeliest_language
from fun_asr.decoding.words import AlignedWord, WrittenWord
from fun_asr.drafts import Draft
from fun_asr.errors import CheckpointError
from fun_asr.models.cost import Cost, count_cost
from fun_asr.models.frames import SEGMENT_SECONDS, FrameRecogniser, Samples
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.models.runs import encoder_runs, of_few_lengths
from fun_asr.models.sanm.checkpoint import open_upstream, read_config, read_statistics, upstream_model
from fun_asr.models.sense_voice.config import BLANK, LANGUAGE_QUERIES, MODEL, NUM_QUERIES, from_upstream, queries
from fun_asr.models.sense_voice.network import SenseVoice
from fun_asr.models.sense_voice.pieces import SensePieces, sense_pieces
from fun_asr.models.sense_voice.weights import HEAD, weight_table
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.weights.assemble import assemble, check_shapes, frame_compute_type
from fun_asr.weights.load import describe_network, only_shapes
from fun_asr.weights.precision import resolve_device

__all__ = ["SenseVoiceRecogniser", "describe", "is_own", "load"]

FAMILY = "sense_voice"
FRAMES_APART = 8  # frames of 60 ms by which lengths of runs differ at least
LATE = FRAME // 2  # samples: a frame stacks as much before its place as after it
NO_SPEECH = "nospeech"
_NO_ANSWER = ("EMO_UNKNOWN", "Event_UNK")


class SenseVoiceRecogniser(FrameRecogniser):
    """A SenseVoice model that recognises segments.

    Arguments:
        network: ready for inference.
        pieces: its vocabulary.
        statistics: what is added to features and what they are multiplied by, `[in_dim]` each; None for neither.
        device: where it computes.
    """

    def __init__(
        self, network: SenseVoice, pieces: SensePieces, statistics: tuple[Tensor, Tensor] | None, device: torch.device
    ) -> None:
        super().__init__(
            pieces,
            BLANK,
            FRAME,
            device,
            describe_network(network, FAMILY),
            tuple(LANGUAGE_QUERIES),
            has_ctc=True,
            has_transducer=False,
        )
        self.network = network
        self._tags = pieces.tags
        self._statistics = None if statistics is None else (statistics[0].to(device), statistics[1].to(device))
        self._language_tags = {tag: number for number, tag in self._tags.items() if tag in LANGUAGE_QUERIES}

    def answered(self, waves: Sequence[Samples], rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """The encoder's frames of some waves and what is asked of each, `[B, 4 + L, D]`, and how many L count of each.

        Arguments:
            waves: mono 16 kHz.
            rows: of each, as `fun_asr.models.sense_voice.config.queries` gives them.
        """
        config = self.network.config.encoder
        features, lengths_B = stacked_fbank(waves, n_mels=config.n_mels, stacked=config.stacked, device=self._device)
        if self._statistics is not None:
            shift, scale = self._statistics
            features = (features + shift) * scale
        padded = of_few_lengths(features, FRAMES_APART, dim=1)
        encoded = self.network.encode(padded, lengths_B, torch.tensor(rows, device=self._device))
        return encoded[:, : NUM_QUERIES + features.shape[1]], lengths_B

    def encode(self, waves: Sequence[Samples]) -> tuple[Tensor, Tensor]:
        """The encoder's frames of some waves in any language as they are spoken, `[B, L, D]`, and how many count."""
        encoded, lengths_B = self.answered(waves, [queries(None, itn=False)] * len(waves))
        return encoded[:, NUM_QUERIES:], lengths_B

    def ctc_logits(self, encoded: Tensor) -> Tensor:
        """Of the CTC head, `[B, L, C]`."""
        logits: Tensor = self.network.ctc_head(encoded)
        return logits

    def transduce(self, encoded: Tensor, lengths_B: Tensor) -> list[list[Emission]]:
        """It has no transducer."""
        raise NotImplementedError

    @property
    def detects_languages(self) -> bool:
        """It says of what it was not told which language it is."""
        return True

    @torch.inference_mode()
    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        """Recognise segments, at least one, each with samples.

        Arguments:
            segments: what to recognise.
            languages: the code of each; None lets the model say which of its languages it is.
            options: how; their language does not count.
            priors: what another segment of each one's recording says of the language; None where none does.

        Returns:
            what was recognised of each segment, in their order.
        """
        results = [RecognisedSegment(language=language) for language in languages]
        # What is shorter than a frame says nothing.
        lengths = {i: len(segment.samples) for i, segment in enumerate(segments) if len(segment.samples) >= FRAME}
        for run in encoder_runs(lengths, self._device):
            waves = [segments[i].samples for i in run]
            encoded, lengths_B = self.answered(waves, [queries(languages[i], itn=options.itn) for i in run])
            answers = self.ctc_logits(encoded[:, :NUM_QUERIES]).float().log_softmax(dim=-1).cpu()
            heard = self._search(encoded[:, NUM_QUERIES:], lengths_B, options)
            for i, answer, (emissions, score) in zip(run, answers, heard, strict=True):
                prior = None if priors is None else priors[i]
                spoken = self._spoken_language(answer, languages[i], options, prior)
                results[i] = self._written(segments[i], emissions, score, answer, spoken, options)
        return results

    def _written(
        self,
        segment: AudioSegment,
        emissions: Sequence[Emission],
        score: float,
        answer: Tensor,
        spoken_in: SpokenLanguage | None,
        options: TranscriptionOptions,
    ) -> RecognisedSegment:
        """What is written of a segment, given its tokens and the log-probabilities `[4, C]` of the answers."""
        emotion, event = (self._tags.get(int(number)) for number in answer[1:3].argmax(dim=-1))
        asked = {"emotion": emotion, "event": event}
        tags = {name: tag.lower() for name, tag in asked.items() if tag is not None and tag not in _NO_ANSWER}
        if spoken_in is None:
            return RecognisedSegment(tags=tags)
        language, probability, evidence = spoken_in
        said_tokens = [emission for emission in emissions if emission.token not in self._tags]
        timed = [word for word in self._timed(said_tokens, len(segment.samples)) if word.text]
        silent = RecognisedSegment(
            language=language, language_probability=probability, language_evidence=evidence, tags=tags
        )
        if not timed:
            return silent
        spoken = text = self._pieces.decode([emission.token for emission in said_tokens])
        if options.punctuation and not options.itn and language == "en":
            draft = Draft([WrittenWord(word.text) for word in timed], score=score, language=language, timed=timed)
            punctuated = draft.formatted(language, self._punctuator, itn=False)
            text, timed = punctuated.text, punctuated.timed or timed
        start = segment.span.start
        words = placed_words(timed, start)
        return replace(
            silent,
            text=text,
            spoken=spoken,
            score=score,
            words=words if options.word_times else (),
            word_times=options.word_times,
        )

    def _spoken_language(
        self,
        answer: Tensor,
        language: str | None,
        options: TranscriptionOptions,
        prior: Mapping[str, float] | None,
    ) -> SpokenLanguage | None:
        """The language that was given, or that is likeliest by the first answer; None where nobody seems to speak."""
        if language is not None:
            return SpokenLanguage(language)
        if options.guard and self._tags.get(int(answer[0].argmax())) == NO_SPEECH:
            return None
        codes = [code for code in self._language_tags if not options.languages or code in options.languages]
        shares = answer[0, [self._language_tags[code] for code in codes]].softmax(dim=0).tolist()
        evidence = dict(zip(codes, shares, strict=True))
        return SpokenLanguage(*likeliest_language(evidence, prior), evidence)

    def _timed(self, emissions: Sequence[Emission], samples: int) -> list[AlignedWord]:
        """The words that tokens are and where they were said."""
        return [
            replace(word, start=max(0, word.start - LATE), end=max(0, word.end - LATE))
            for word in emitted_words(emissions, self._pieces, FRAME, samples + LATE)
        ]


def describe(path: Path, tokens_per_second: float) -> Cost:
    """What a published model costs; its head writes frames, whatever the tokens.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """
    config = from_upstream(read_config(path), len(sense_pieces(path)))
    with only_shapes():
        network = SenseVoice(config)
    network.to("meta")
    frames = round(SEGMENT_SECONDS * SAMPLE_RATE / FRAME)
    features = torch.empty(1, frames, config.encoder.in_dim, device="meta")
    rows = torch.zeros(1, NUM_QUERIES, dtype=torch.int64, device="meta")
    encoded = torch.empty(1, NUM_QUERIES + frames, config.encoder.dim, device="meta")
    return count_cost(
        network,
        FAMILY,
        {
            "encoder": lambda: network.encode(features, torch.tensor([frames]), rows),
            "ctc_head": lambda: network.ctc_head(encoded),
        },
        segment_seconds=SEGMENT_SECONDS,
        tokens_per_second=tokens_per_second,
    )


def is_own(path: Path) -> bool:
    """Whether a path is a folder with a model of this family."""
    return path.is_dir() and upstream_model(path) == MODEL


def load(options: ModelOptions) -> SenseVoiceRecogniser:
    """Load a model for inference.

    Arguments:
        options: whose directory is one for which `is_own` holds.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
        ConfigError: for a device or compute type that is not available.
    """
    assert options.directory is not None
    directory, device = options.directory, resolve_device(options.device)
    compute_type = frame_compute_type(options.compute_type, device)
    pieces = sense_pieces(directory)
    config = from_upstream(read_config(directory), len(pieces))
    missing = [code for code in LANGUAGE_QUERIES if code not in pieces.tags.values()]
    if missing:
        raise CheckpointError(f"{directory}: its vocabulary has no <|{missing[0]}|>, with which SenseVoice answers")
    statistics = read_statistics(directory, config.encoder.in_dim)
    source = open_upstream(directory)
    table = weight_table(config)
    rows = source.shapes.get(f"{HEAD}.weight", (len(pieces),))[0]
    if rows != len(pieces):
        raise CheckpointError(f"{directory}: {len(pieces)} pieces; the model writes {rows}")
    check_shapes(source, table.shapes)
    with only_shapes():
        network = SenseVoice(config)
    assemble(network, source, table.recipes, device, compute_type)
    return SenseVoiceRecogniser(network, pieces, statistics, device)
