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

from tests.models.reference import clips, randomise, train_pieces

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


@torch.no_grad()
def spread(model: Any, processor: Any, kind: str) -> None:
    """Make what reads the encoder hear differences: random encoders say nearly the same of all frames."""
    encoded = model.encoder(**processor([clips()[1]], sampling_rate=16000)).last_hidden_state[0]
    reader = model.ctc_head if kind == "ctc" else model.encoder_projector
    weight = torch.randn(len(reader.weight), encoded.shape[1]) / encoded.std(dim=0)
    weight *= (0.4 if kind == "ctc" else 1) / encoded.shape[1] ** 0.5
    reader.weight.copy_(weight.view_as(reader.weight))
    reader.bias.copy_(-weight @ encoded.mean(dim=0))
    if kind == "ctc":
        reader.bias[PIECES] += 0.7
    else:
        head = model.joint.head
        head.weight.copy_(torch.randn_like(head.weight) * 0.5)
        head.bias[PIECES] += 9.0 if kind == "rnnt" else 4.0
        # transformers goes on at a frame for ever, where NeMo stops after ten tokens.
        if kind == "tdt":
            head.bias[PIECES + 1] -= 9.0
            model.generation_config.suppress_tokens = list(range(PIECES + 1, PIECES + 6))  # the durations
        model.generation_config.decoder_start_token_id = PIECES


def publish(kind: str, directory: Path, *, bias: bool = True, n_mels: int = 80) -> Published:
    torch.manual_seed(2)  # with others a transducer may write one token for ever
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
                vocab_size=PIECES + 1,
                blank_token_id=PIECES,
                pad_token_id=PIECES,
                decoder_hidden_size=32,
                encoder_config=encoder,
            )
        )
    randomise(model, 3)
    model.eval()
    spread(model, processor, kind)
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
