"""What a SenseVoice model is made of, read from FunASR's `config.yaml`, and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from fun_asr.layers.sanm import SANMConfig
from fun_asr.models.published import Values
from fun_asr.models.sanm.checkpoint import encoder_config

__all__ = ["LANGUAGE_QUERIES", "MODEL", "NUM_QUERIES", "SenseVoiceConfig", "from_upstream", "queries"]

MODEL = "SenseVoiceSmall"
"""What `config.yaml` calls it."""
BLANK = 0

# Rows of the embedding that are put before the speech.
LANGUAGE_QUERIES = {"zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12}
ANY_LANGUAGE = 0
EMOTION_AND_EVENT = (1, 2)
WRITTEN, SPOKEN = 14, 15
"""With inverse text normalization and punctuation, and without."""
NUM_ROWS = 16
NUM_QUERIES = 4
"""Frames before those of the speech; the CTC head answers in them with tags."""


@dataclass(frozen=True, kw_only=True)
class SenseVoiceConfig:
    """Sizes of a model."""

    encoder: SANMConfig = field(default_factory=SANMConfig)
    vocab_size: int = 25055
    """With the blank, which is 0."""


def from_upstream(config: Values, vocab_size: int) -> SenseVoiceConfig:
    """The configuration in a `config.yaml`.

    Arguments:
        config: what the file holds.
        vocab_size: which it does not say: upstream counts the tokenizer's pieces.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    config.fixed("model", MODEL)
    config.fixed("encoder", "SenseVoiceEncoderSmall")
    config.inner("model_conf").fixed("blank_id", BLANK)
    return SenseVoiceConfig(encoder=encoder_config(config, "encoder_conf"), vocab_size=vocab_size)


def queries(language: str | None, *, itn: bool) -> tuple[int, int, int, int]:
    """The rows that ask for a language, emotion and event, and the written form.

    Arguments:
        language: code; one that the model has no row for counts as None, which leaves it open.
        itn: whether numbers are to be written in digits, and sentences with punctuation.
    """
    row = ANY_LANGUAGE if language is None else LANGUAGE_QUERIES.get(language, ANY_LANGUAGE)
    return (row, *EMOTION_AND_EVENT, WRITTEN if itn else SPOKEN)
