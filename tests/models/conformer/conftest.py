"""Parakeet models of a few thousand random weights, as transformers saves them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetForRNNT,
    ParakeetForTDT,
    ParakeetProcessor,
    ParakeetRNNTConfig,
    ParakeetTDTConfig,
    ParakeetTokenizer,
)
from transformers.convert_slow_tokenizer import ParakeetConverter

from tests.models.reference import randomise, train_pieces

PIECES = 96
ENCODER = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
    "subsampling_conv_channels": 16,
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A model as its publisher ships it."""

    kind: str
    directory: Path
    model: Any
    processor: Any
    pieces: Path


def publish(kind: str, directory: Path, *, bias: bool = True, n_mels: int = 80) -> Published:
    pieces = train_pieces(directory, PIECES)
    tokenizer = ParakeetTokenizer(
        tokenizer_object=ParakeetConverter(str(pieces)).converted(), clean_up_tokenization_spaces=False
    )
    blank = AddedToken("<pad>" if kind == "ctc" else "<blank>", normalized=False, special=True)
    tokenizer.add_tokens([blank])
    tokenizer.add_special_tokens({"pad_token": blank, "unk_token": AddedToken("<unk>", normalized=False, special=True)})
    extractor = ParakeetFeatureExtractor(feature_size=n_mels)
    processor = ParakeetProcessor(feature_extractor=extractor, tokenizer=tokenizer, decoder_type=kind)
    encoder = ENCODER | {"attention_bias": bias, "convolution_bias": bias, "num_mel_bins": n_mels, "scale_input": bias}
    if kind == "ctc":
        config = ParakeetCTCConfig(vocab_size=PIECES + 1, pad_token_id=PIECES, encoder_config=encoder)
        model = ParakeetForCTC(config)
    else:
        made = {"tdt": (ParakeetTDTConfig, ParakeetForTDT), "rnnt": (ParakeetRNNTConfig, ParakeetForRNNT)}[kind]
        model = made[1](
            made[0](
                vocab_size=PIECES + 1, blank_token_id=PIECES, pad_token_id=PIECES, decoder_hidden_size=32,
                encoder_config=encoder,
            )  # fmt: skip
        )
    randomise(model, 3)
    with torch.no_grad():
        # Some tokens and some blanks, and pointers that move.
        if kind == "ctc":
            model.ctc_head.weight.mul_(3)
            model.ctc_head.bias[PIECES] += 1.0
        else:
            model.joint.head.weight.mul_(8)
            model.joint.head.bias[PIECES] += 2.0
            model.joint.head.bias[PIECES + 1 : PIECES + 2] -= 1.0
    model.eval()
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return Published(kind, directory, model, processor, pieces)


@pytest.fixture(scope="session", params=["ctc", "tdt", "rnnt"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(request.param, tmp_path_factory.mktemp(f"parakeet-{request.param}"))


@pytest.fixture(scope="session")
def published_ctc(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish("ctc", tmp_path_factory.mktemp("parakeet-ctc"))


@pytest.fixture(scope="session")
def published_tdt(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish("tdt", tmp_path_factory.mktemp("parakeet-tdt"), bias=False, n_mels=128)
