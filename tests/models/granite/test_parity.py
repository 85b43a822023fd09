"""Granite Speech CTC here and in transformers: the same features, encoders, logits and texts."""

from pathlib import Path

import pytest
import torch
from transformers import GraniteSpeech5CTCConfig, GraniteSpeech5ForCTC

from fun_asr.models.granite.config import from_transformers
from fun_asr.models.granite.recogniser import load
from fun_asr.models.granite.weights import published_shapes, unused
from fun_asr.models.registry import identify
from fun_asr.options import ModelOptions, TranscriptionOptions
from tests.models.granite.conftest import Published
from tests.models.reference import clips, segments, shapes_of, worst

FLOAT32 = {"device": "cpu", "compute_type": "float32"}
RAW = TranscriptionOptions(itn=False, punctuation=False)


def text_of(published: Published, tokens: torch.Tensor) -> str:
    merged = [token for token in torch.unique_consecutive(tokens).tolist() if token != 0]
    return " ".join(published.tokenizer.decode(merged, skip_special_tokens=True).split())


def test_a_published_folder_gives_what_transformers_gives(published: Published) -> None:
    assert identify(published.directory).name == "granite"
    recogniser = load(ModelOptions(directory=published.directory, **FLOAT32))
    waves = clips()
    together = recogniser.recognise(segments(waves), [None] * len(waves), RAW)
    for wave, batched in zip(waves, together, strict=True):
        inputs = published.features(wave)
        with torch.no_grad():
            encoded = published.model.encoder(**inputs).last_hidden_state[0]
            logits = published.model(**inputs).logits[0]
            text = text_of(published, published.model.generate(**inputs)[0])
        with torch.inference_mode():
            ours, lengths = recogniser.encode([wave])
            assert lengths.tolist() == [len(encoded)]
            assert worst(ours[0], encoded) < 1e-4
            assert worst(recogniser.ctc_logits(ours)[0], logits) < 1e-4
        (alone,) = recogniser.recognise(segments([wave]), [None], RAW)
        assert len(text) > 5
        assert alone.spoken == text
        assert batched.spoken == alone.spoken


def test_a_padded_batch_changes_nothing_in_either_way_to_attend(published: Published) -> None:
    recogniser = load(ModelOptions(directory=published.directory, **FLOAT32))
    waves = clips()
    with torch.no_grad():
        batch, lengths = recogniser.encode(waves)
        alone = [recogniser.encode([wave])[0][0] for wave in waves]
    with torch.enable_grad():  # as in training and on a GPU: blocks of all utterances at once
        blocks, _ = recogniser.encode(waves)
    for row, other, length, single in zip(batch, blocks, lengths.tolist(), alone, strict=True):
        assert worst(row[:length], single) < 1e-5
        assert worst(other[:length], single) < 1e-5


def test_the_published_size_has_the_names_and_shapes_of_transformers() -> None:
    config = GraniteSpeech5CTCConfig()
    with torch.device("meta"):
        reference = shapes_of(GraniteSpeech5ForCTC(config))
    ours = from_transformers(config.to_dict(), "config.json")
    assert ours.tied
    head = ("ctc_head.weight", "ctc_head.bias")
    expected = {name: shape for name, shape in reference.items() if name not in head}
    assert published_shapes(ours) | {name: () for name in unused(ours) if name not in head} == expected


def test_shards_are_read(published: Published, tmp_path: Path) -> None:
    published.model.save_pretrained(tmp_path, max_shard_size="100KB")
    published.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    whole, sharded = (
        load(ModelOptions(directory=directory, **FLOAT32)).recognise(segments(clips()[:1]), [None], RAW)[0]
        for directory in (published.directory, tmp_path)
    )
    assert sharded == whole and whole.text


@pytest.mark.parametrize(("compute_type", "close"), [("bfloat16", 0.05), ("int8", 0.08)])
def test_narrow_arithmetic_stays_close(published: Published, compute_type: str, close: float) -> None:
    exact = load(ModelOptions(directory=published.directory, **FLOAT32))
    narrow = load(ModelOptions(directory=published.directory, device="cpu", compute_type=compute_type))
    assert set(narrow.info.arithmetic.values()) == {compute_type}
    for wave in clips()[:2]:
        with torch.inference_mode():
            expected, found = exact.encode([wave])[0], narrow.encode([wave])[0].float()
        assert (found - expected).norm() < close * expected.norm()
