"""A Whisper model on its way back into the folder layout of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fun_asr.models.text_times import later_heads
from fun_asr.models.whisper.checkpoint import CONFIG_FILE, CTRANSLATE2_FILE, GENERATION_FILE, Checkpoint
from fun_asr.models.whisper.config import WhisperConfig, to_transformers
from fun_asr.models.whisper.names import TRANSFORMERS
from fun_asr.models.whisper.tokenizer import WhisperTokenizer
from fun_asr.weights.published import PublishedNames, companions

__all__ = ["files", "names"]

_OTHERS = {CONFIG_FILE, GENERATION_FILE, "vocabulary.json", "vocabulary.txt"}  # in CTranslate2's own words


def names(config: WhisperConfig) -> PublishedNames:
    """transformers' names; ours has biases of keys, which they have not: softmax does not see them."""
    return PublishedNames(TRANSFORMERS.names(config))


def files(checkpoint: Checkpoint, tokenizer: WhisperTokenizer) -> tuple[list[Path], dict[str, dict[str, Any]]]:
    """What belongs beside the weights: files to copy, and JSON files to write where the model has another layout."""
    found = companions(checkpoint.folder)
    if checkpoint.layout is TRANSFORMERS:
        return found, {}
    kept = [path for path in found if path.name not in _OTHERS and path.name != CTRANSLATE2_FILE]
    config, generation = checkpoint.config, checkpoint.generation
    special = {
        "decoder_start_token_id": tokenizer.sot,
        "bos_token_id": tokenizer.eot,
        "eos_token_id": tokenizer.eot,
        "pad_token_id": tokenizer.eot,
    }
    suppress, first = generation.suppress, generation.suppress_first
    said: dict[str, Any] = {
        **special,
        "suppress_tokens": list(tokenizer.no_speech_signs if suppress is None else suppress),
        "begin_suppress_tokens": list(tokenizer.blanks if first is None else first),
        "alignment_heads": [list(pair) for pair in generation.alignment_heads or later_heads(config.decoder)],
        "no_timestamps_token_id": tokenizer.no_timestamps,
        "max_length": config.max_tokens,
        "is_multilingual": tokenizer.multilingual,
        "return_timestamps": False,
    }
    if tokenizer.multilingual:
        said["lang_to_id"] = {f"<|{code}|>": number for code, number in tokenizer.languages.items()}
        said["task_to_id"] = {"transcribe": tokenizer.transcribe}
        if tokenizer.translate is not None:
            said["task_to_id"]["translate"] = tokenizer.translate
    if tokenizer.previous is not None:
        said["prev_sot_token_id"] = tokenizer.previous
    front_end = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": config.n_mels,
        "sampling_rate": 16_000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": config.max_frames // 50,
        "nb_max_frames": 2 * config.max_frames,
        "n_samples": 320 * config.max_frames,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }
    written = {
        CONFIG_FILE: to_transformers(config) | special,
        GENERATION_FILE: said,
        "preprocessor_config.json": front_end,
        "tokenizer_config.json": {"tokenizer_class": "WhisperTokenizer"},
    }
    there = {path.name for path in kept}
    return kept, {name: values for name, values in written.items() if name not in there}
