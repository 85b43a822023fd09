"""Nemotron 3.5 Transcribe as transformers writes it, with random weights, small sizes and a small vocabulary."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import (
    Nemotron3_5TranscribeConfig,
    Nemotron3_5TranscribeForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.nemotron_asr_streaming.feature_extraction_nemotron_asr_streaming import (
    NemotronAsrStreamingFeatureExtractor,
)

from tests.models.reference import SENTENCES, randomise

SPECIAL = (
    "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<spk:0>", "<spk:1>", "<ev:laughter>",
)  # fmt: skip
AUDIO = "<|audio|>"
HEARD: dict[str, Any] = {
    "audio_config": {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    },
    "head_config": {"hidden_size": 8, "num_speakers": 4, "audio_hidden_size": 16},
    "streaming_config": {"num_speakers": 4, "speaker_cache_length": 12},
    "chunk_length": 100, "chunk_left_context": 5, "chunk_right_context": 5,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 24, "hybrid_override_pattern": "MEM*E-", "mamba_num_heads": 4,
    "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 2, "chunk_size": 16, "moe_intermediate_size": 12,
    "moe_shared_expert_intermediate_size": 20, "n_routed_experts": 6, "num_experts_per_tok": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "routed_scaling_factor": 2.5,
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    directory: Path
    model: Any
    tokenizer: Any
    alignment: Any

    def tokens(self, text: str) -> list[int]:
        """Of a prompt as it is published, special tokens and all."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def inputs(self, wave: npt.NDArray[np.float32], prompt: str) -> dict[str, Tensor]:
        """What transformers takes: the prompt's one <|audio|> becomes as many as there are positions."""
        extractor = NemotronAsrStreamingFeatureExtractor(feature_size=128, mel_filters_dtype="bfloat16")
        found = extractor([wave], sampling_rate=16000, return_tensors="pt")
        padding = -found["input_features"].shape[1] % 8
        features = torch.nn.functional.pad(found["input_features"], (0, 0, 0, padding))
        mask = torch.nn.functional.pad(found["attention_mask"].long(), (0, padding))
        (audio,) = self.tokens(AUDIO)
        count = -(-int(mask.sum()) // 8)
        ids = [token for t in self.tokens(prompt) for token in ([t] * count if t == audio else [t])]
        return {
            "input_ids": torch.tensor([ids]),
            "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
            "input_features": features,
            "input_features_mask": mask,
        }

    def written(self, wave: npt.NDArray[np.float32], prompt: str, count: int) -> list[int]:
        """The tokens that transformers writes."""
        inputs = self.inputs(wave, prompt)
        barred = self.tokens(AUDIO + "<|im_end|><|im_start|>")
        with torch.no_grad():
            ids = self.model.generate(
                **inputs, max_new_tokens=count, do_sample=False, suppress_tokens=barred[1:], eos_token_id=barred[1],
                pad_token_id=0,
            )  # fmt: skip
        return list(ids[0, inputs["input_ids"].shape[1] :].tolist())


def tokenizer_in(directory: Path, special: tuple[str, ...], size: int) -> Any:
    directory.mkdir(exist_ok=True)
    base = ByteLevelBPETokenizer()
    base.train_from_iterator(SENTENCES, vocab_size=size, show_progress=False)
    base.save(str(directory / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.save_pretrained(directory)
    return tokenizer


def publish(directory: Path) -> Published:
    torch.manual_seed(0)  # whatever tests ran before
    tokenizer = tokenizer_in(directory, (*SPECIAL, AUDIO), 300)
    alignment = tokenizer_in(directory / "alignment_tokenizer", (), 280)
    classes = len(alignment) + 1
    config = Nemotron3_5TranscribeConfig(
        audio_config={
            "asr_config": {
                "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
            },
            "diarization_config": {"model_type": "nemotron3_diarization", **HEARD},
        },
        # As published, the token that stands for audio is beyond the vocabulary.
        text_config={"model_type": "nemotron_h", **TEXT, "vocab_size": len(tokenizer) - 1},
        word_timestamp_config={
            "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": classes, "blank_token_id": classes - 1,
        },
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO),
    )  # fmt: skip
    model: Any = Nemotron3_5TranscribeForConditionalGeneration(config).eval()
    randomise(model, 1, 0.3)
    model.save_pretrained(directory)
    return Published(directory, model, tokenizer, alignment)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("nemotron"))
