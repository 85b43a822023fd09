"""A Granite Speech CTC model of a few thousand random weights, as transformers saves it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GraniteSpeech5CTCConfig, GraniteSpeech5ForCTC, PreTrainedTokenizerFast
from transformers.models.granite_speech5.feature_extraction_granite_speech5 import GraniteSpeech5FeatureExtractor

from tests.models.reference import clips, randomise

LETTERS = "abcdefghijklmnopqrstuvwxyz'"


@dataclass(frozen=True)
class Published:
    directory: Path
    model: Any
    tokenizer: Any
    extractor: Any

    def features(self, wave: Any) -> dict[str, torch.Tensor]:
        return dict(self.extractor([wave], sampling_rate=16000, return_tensors="pt"))


def publish_granite(directory: Path) -> Published:
    vocabulary = {"<pad>": 0, "Ġ": 1} | {letter: number for number, letter in enumerate(LETTERS, start=2)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    config = GraniteSpeech5CTCConfig(
        vocab_size=len(vocabulary),
        encoder_config={
            "vocab_size": len(vocabulary), "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
            "intermediate_size": 128, "context_size": 24, "max_position_embeddings": 48,
        },
    )  # fmt: skip
    torch.manual_seed(0)  # whatever tests ran before
    model = GraniteSpeech5ForCTC(config).eval()
    randomise(model, 5)
    extractor = GraniteSpeech5FeatureExtractor()
    with torch.no_grad():
        inputs = extractor([clips()[1]], sampling_rate=16000, return_tensors="pt")
        encoded = model.encoder(**inputs).last_hidden_state[0]
        weight = torch.randn(len(vocabulary), 64) / encoded.std(dim=0) * 0.1
        model.ctc_head.weight.copy_(weight)
        model.ctc_head.bias.copy_(-weight @ encoded.mean(dim=0))
        model.ctc_head.bias[0] += 0.1
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    extractor.save_pretrained(directory)
    return Published(directory, model, tokenizer, extractor)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_granite(tmp_path_factory.mktemp("granite"))
