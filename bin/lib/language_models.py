"""Speech models with language models, of published sizes and random weights, here and in transformers.

Every system is a process that holds the same clips: it makes their features, reads them all in one batch, and writes a
fixed number of tokens of each, greedily.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from workers import answer

__all__ = ["SHAPES", "make_model"]

_TEXT: dict[str, Any] = {
    "model_type": "qwen3", "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072,
    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "tie_word_embeddings": True,
}  # fmt: skip
_TINY_TEXT: dict[str, Any] = {
    **_TEXT, "vocab_size": 200, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-asr-0.6b": {
        "audio_config": {
            "d_model": 896, "encoder_layers": 18, "encoder_attention_heads": 14, "encoder_ffn_dim": 3584,
            "output_dim": 1024,
        },
        "text_config": _TEXT,
    },
    "nano": {"text_config": _TEXT},
    "qwen3-asr-tiny": {
        "audio_config": {
            "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "output_dim": 64,
            "downsample_hidden_size": 8,
        },
        "text_config": _TINY_TEXT,
    },
    "nano-tiny": {
        "audio_config": {"hidden_size": 32, "num_hidden_layers": 3, "num_timestamp_prediction_layers": 1},
        "adaptor_config": {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 16},
        "text_config": _TINY_TEXT,
    },
}  # fmt: skip
"""What differs from the defaults of transformers."""
PROMPT = (list(range(1, 11)), list(range(11, 19)))
"""Tokens before and after the speech."""
SPEECH = 20
"""The token in whose place a vector of the speech stands."""


def make_model(name: str, folder: Path) -> None:
    """Save a model in bfloat16 as transformers does."""
    from transformers import (
        FunAsrNanoConfig,
        FunAsrNanoForConditionalGeneration,
        Qwen3ASRConfig,
        Qwen3ASRForConditionalGeneration,
    )

    torch.manual_seed(0)
    nano = name.startswith("nano")
    config: Any = (FunAsrNanoConfig if nano else Qwen3ASRConfig)(audio_token_id=SPEECH, **SHAPES[name])
    model: Any = (FunAsrNanoForConditionalGeneration if nano else Qwen3ASRForConditionalGeneration)(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    if nano:  # transformers reads every vector of the speech
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "use_low_frame_rate": False}), "utf-8")


def ours(folder: Path, clips: Path, tokens: int, compute_type: str) -> Callable[[], int]:
    """This project's network and search."""
    from fun_asr.audio.kaldi_features import stacked_fbank
    from fun_asr.decoding.prefixed import PrefixedOptions, continue_prefixes
    from fun_asr.memory import return_free_memory
    from fun_asr.models.fun_asr_nano import load as nano
    from fun_asr.models.qwen3 import load as qwen3
    from fun_asr.models.qwen3.features import clip_log_mel
    from fun_asr.weights.precision import ComputeType
    from fun_asr.weights.sources import open_safetensors, read_json

    waves, cpu, kind = list(np.load(clips).values()), torch.device("cpu"), ComputeType(compute_type)
    network: Any
    if read_json(folder / "config.json")["model_type"] == "fun_asr_nano":
        config = nano.read_network_config(folder)
        # The vocabulary, which random weights do not have, is not asked for.
        checkpoint = nano.Checkpoint(config, False, open_safetensors(folder), cast(Any, None), (), None)
        network = nano.load_network(checkpoint, cpu, kind)

        def encode() -> list[torch.Tensor]:
            features, lengths = stacked_fbank(waves)
            vectors = network.adaptor(network.encoder(features, lengths), lengths)
            return [row[:length] for row, length in zip(vectors, lengths.tolist(), strict=True)]
    else:
        network = qwen3.load_network(folder, [cpu], kind)
        n_mels = network.config.audio.n_mels

        def encode() -> list[torch.Tensor]:
            vectors, counts = network.encoder([clip_log_mel(wave, n_mels=n_mels, device=cpu) for wave in waves])
            return list(vectors.split(counts))

    model = network.language_model
    last = model.config.vocab_size - 1
    search = PrefixedOptions(stop=(last,), suppress=(last,), beam_size=1)

    @torch.inference_mode()
    def run() -> int:
        before, after = (model.embed(torch.tensor(part)) for part in PROMPT)
        prefixes = [torch.cat((before, vectors.to(before.dtype), after)) for vectors in encode()]
        lengths = [len(prefix) for prefix in prefixes]
        found = continue_prefixes(model, torch.cat(prefixes), lengths, [tokens] * len(waves), search)
        return_free_memory()  # as the transcriber does after a batch
        return sum(len(text.tokens) for text in found)

    return run


def transformers(folder: Path, clips: Path, tokens: int, compute_type: str) -> Callable[[], int]:
    """The transformers package."""
    from transformers import AutoConfig, FunAsrNanoForConditionalGeneration, Qwen3ASRForConditionalGeneration
    from transformers.models.qwen3_asr.feature_extraction_qwen3_asr import Qwen3ASRFeatureExtractor

    from fun_asr.audio.kaldi_features import stacked_fbank

    waves, dtype = list(np.load(clips).values()), getattr(torch, compute_type)
    nano = AutoConfig.from_pretrained(folder).model_type == "fun_asr_nano"
    kind: Any = FunAsrNanoForConditionalGeneration if nano else Qwen3ASRForConditionalGeneration
    model = kind.from_pretrained(folder, dtype=dtype).eval()
    extractor: Any = Qwen3ASRFeatureExtractor()  # type: ignore[no-untyped-call]

    def features_of() -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Features, their mask, and how many vectors each clip has."""
        if nano:
            features, lengths = stacked_fbank(waves)
            return features, (torch.arange(features.shape[1]) < lengths[:, None]).long(), lengths.tolist()
        made = extractor(waves, sampling_rate=16_000, padding=True, return_attention_mask=True, return_tensors="pt")
        mask, counts = made["input_features_mask" if "input_features_mask" in made else "attention_mask"], []
        for frames in mask.sum(dim=1).tolist():
            whole, rest = divmod(frames, 100)
            for _ in range(3):
                rest = -(-rest // 2)
            counts.append(13 * whole + rest)
        return made["input_features"], mask, counts

    @torch.inference_mode()
    def run() -> int:
        features, mask, counts = features_of()
        before, after = PROMPT
        rows = [[*before, *[SPEECH] * count, *after] for count in counts]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        attended = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        written = model.generate(
            input_ids=ids, attention_mask=attended, input_features=features.to(dtype), input_features_mask=mask,
            max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        return int(written[:, width:].numel())

    return run


if __name__ == "__main__":
    system, model_folder, clip_file, thread_count, token_count, arithmetic = sys.argv[1:]
    if system == "ours":
        from fun_asr.memory import set_up_memory

        set_up_memory()
    torch.set_num_threads(int(thread_count))
    load = {"ours": ours, "transformers": transformers}[system]
    answer(lambda: load(Path(model_folder), Path(clip_file), int(token_count), arithmetic))
