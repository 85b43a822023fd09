"""Parakeet models here and in transformers: the same features, encoders, logits, tokens and texts."""

from pathlib import Path

import pytest
import torch
from transformers import (
    ParakeetCTCConfig,
    ParakeetForCTC,
    ParakeetForRNNT,
    ParakeetForTDT,
    ParakeetRNNTConfig,
    ParakeetTDTConfig,
)

from fun_asr.models.conformer.config import from_transformers
from fun_asr.models.conformer.recogniser import load
from fun_asr.models.conformer.weights import published_shapes, unused
from fun_asr.models.registry import identify
from fun_asr.options import ModelOptions, TranscriptionOptions
from tests.models.conformer.conftest import Published
from tests.models.reference import clips, segments, shapes_of, worst

FLOAT32 = {"device": "cpu", "compute_type": "float32"}
RAW = TranscriptionOptions(itn=False, punctuation=False)


def theirs(published: Published, wave: object) -> tuple[torch.Tensor, torch.Tensor, str]:
    """transformers' encoder frames, CTC logits or none, and text of a clip alone."""
    inputs = published.processor([wave], sampling_rate=16000)
    with torch.no_grad():
        encoded = published.model.encoder(**inputs)
        length = int(encoded.attention_mask.sum())
        logits = published.model(**inputs).logits[0, :length] if published.kind == "ctc" else torch.empty(0)
        generated = published.model.generate(**inputs)
    tokens = generated if published.kind == "ctc" else generated.sequences
    (text,) = published.processor.batch_decode(tokens, skip_special_tokens=True)
    return encoded.last_hidden_state[0, :length], logits, text


def test_a_published_folder_gives_what_transformers_gives(published: Published) -> None:
    assert identify(published.directory).name == "conformer"
    recogniser = load(ModelOptions(directory=published.directory, **FLOAT32))
    waves = clips()
    together = recogniser.recognise(segments(waves), [None] * len(waves), RAW)
    for wave, batched in zip(waves, together, strict=True):
        encoded, logits, text = theirs(published, wave)
        with torch.inference_mode():
            ours, lengths = recogniser.encode([wave])
            assert lengths.tolist() == [len(encoded)]
            assert worst(ours[0], encoded) < 1e-4
            if published.kind == "ctc":
                assert worst(recogniser.ctc_logits(ours)[0], logits) < 1e-4
        (alone,) = recogniser.recognise(segments([wave]), [None], RAW)
        assert len(text) > 5
        assert alone.spoken == " ".join(text.split())
        assert batched.spoken == alone.spoken
        assert [word.text for word in batched.words] == batched.text.split()


def test_a_padded_batch_of_the_encoder_changes_nothing(published_tdt: Published) -> None:
    recogniser = load(ModelOptions(directory=published_tdt.directory, **FLOAT32))
    waves = clips()
    with torch.inference_mode():
        batch, lengths = recogniser.encode(waves)
        for row, length, wave in zip(batch, lengths.tolist(), waves, strict=True):
            assert worst(row[:length], recogniser.encode([wave])[0][0]) < 1e-5


def test_models_without_biases_and_with_128_mel_bins(published_tdt: Published) -> None:
    recogniser = load(ModelOptions(directory=published_tdt.directory, **FLOAT32))
    for wave in clips()[:3]:
        encoded, _, text = theirs(published_tdt, wave)
        with torch.inference_mode():
            assert worst(recogniser.encode([wave])[0][0], encoded) < 1e-4
        assert recogniser.recognise(segments([wave]), [None], RAW)[0].spoken == " ".join(text.split())


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (
            ParakeetCTCConfig(
                vocab_size=1025, pad_token_id=1024,
                encoder_config={"hidden_size": 512, "num_hidden_layers": 17, "intermediate_size": 2048},
            ),
            ParakeetForCTC,
        ),
        (ParakeetCTCConfig(encoder_config={"num_hidden_layers": 42}), ParakeetForCTC),
        (
            ParakeetTDTConfig(
                encoder_config={"num_mel_bins": 128, "attention_bias": False, "convolution_bias": False}
            ),
            ParakeetForTDT,
        ),
        (ParakeetRNNTConfig(vocab_size=1025, blank_token_id=1024), ParakeetForRNNT),
    ],
    ids=["ctc-110m", "ctc-1.1b", "tdt-0.6b", "rnnt-0.6b"],
)  # fmt: skip
def test_the_published_sizes_have_the_names_and_shapes_of_transformers(config: object, model: type) -> None:
    with torch.device("meta"):
        reference = shapes_of(model(config))
    ours = from_transformers(config.to_dict(), "config.json")  # type: ignore[attr-defined]
    assert published_shapes(ours) | {name: () for name in unused(ours)} == reference


def test_shards_are_read(published_ctc: Published, tmp_path: Path) -> None:
    published_ctc.model.save_pretrained(tmp_path, max_shard_size="100KB")
    published_ctc.processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    wave = clips()[0]
    whole, sharded = (
        load(ModelOptions(directory=directory, **FLOAT32)).recognise(segments([wave]), [None], RAW)[0]
        for directory in (published_ctc.directory, tmp_path)
    )
    assert sharded == whole and whole.text


@pytest.mark.parametrize(("compute_type", "close"), [("bfloat16", 0.05), ("int8", 0.08)])
def test_narrow_arithmetic_stays_close(published_ctc: Published, compute_type: str, close: float) -> None:
    exact = load(ModelOptions(directory=published_ctc.directory, **FLOAT32))
    narrow = load(ModelOptions(directory=published_ctc.directory, device="cpu", compute_type=compute_type))
    assert set(narrow.info.arithmetic.values()) == {compute_type}
    for wave in clips()[:2]:
        with torch.inference_mode():
            expected, found = exact.encode([wave])[0], narrow.encode([wave])[0].float()
        assert (found - expected).norm() < close * expected.norm()
