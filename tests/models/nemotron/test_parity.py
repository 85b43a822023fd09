"""Nemotron 3.5 Transcribe here and in transformers, from the same folder with random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Nemotron3_5TranscribeConfig, Nemotron3_5TranscribeForConditionalGeneration

from fun_asr.audio.conformer_features import plain_log_mel
from fun_asr.decoding.prefixed import continue_prefixes
from fun_asr.models.nemotron.config import from_published
from fun_asr.models.nemotron.prompt import REQUEST, Turn, turns_of
from fun_asr.models.nemotron.recogniser import NemotronRecogniser, describe, load
from fun_asr.models.nemotron.weights import names_of, published_shapes, recipes
from fun_asr.models.registry import identify
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.weights.shrink import shrink_to_int4
from tests.models.nemotron.conftest import Published
from tests.models.reference import clips, segments, worst

PROMPT = (
    f"<|im_start|>system\n<|im_end|>\n<|im_start|>user\n{REQUEST}<|audio|><|im_end|>\n<|im_start|>assistant\n"
    "<think></think>"
)


@pytest.fixture(scope="module")
def ours(published: Published) -> NemotronRecogniser:
    return load(ModelOptions(directory=published.directory, device="cpu", compute_type="float32"))


def test_the_front_end_is_that_of_transformers(published: Published) -> None:
    for wave in clips()[:3]:
        inputs = published.inputs(wave, PROMPT)
        frames = int(inputs["input_features_mask"].sum())
        found = plain_log_mel(wave, n_mels=128, filters=torch.bfloat16)
        assert worst(found, inputs["input_features"][0, :frames]) < 1e-3


def test_what_the_encoders_say_and_the_word_head_hears_equals_transformers(
    published: Published, ours: NemotronRecogniser
) -> None:
    heard = set()
    for wave in clips()[:3]:
        inputs = published.inputs(wave, PROMPT)
        frames = int(inputs["input_features_mask"].sum())
        # Without a position of padding, at which the speakers' last convolution would look.
        features, mask = (inputs[name][:, : frames + -frames % 8] for name in ("input_features", "input_features_mask"))
        with torch.inference_mode():
            theirs = published.model.get_audio_features(features, mask)
            logits = published.model.get_word_timestamp_logits(theirs.asr_last_hidden_state, mask)[0]
            ((vectors, speech, speakers),) = ours.network.encode([features[0, :frames]])
            found = ours.network.aligner(speech)
        assert worst(vectors, theirs.pooler_output) < 1e-4
        assert worst(speech, theirs.asr_last_hidden_state[0]) < 1e-4
        assert worst(speakers, theirs.speaker_logits[0].sigmoid().unflatten(0, (-1, 8)).mean(1)) < 1e-4
        assert worst(found, logits) < 1e-4
        heard |= set((speakers > 0.5).any(dim=0).tolist())
    assert heard == {True, False}  # or the names of speakers would not count


def test_40_greedy_tokens_equal_transformers_alone_and_in_a_batch(
    published: Published, ours: NemotronRecogniser
) -> None:
    waves = clips()[:3]
    parts = [ours.prefix(ours.encode(segment)[0], TranscriptionOptions()) for segment in segments(waves)]
    barred = (*ours._search.stop, *ours._search.suppress)
    search = type(ours._search)(stop=ours._search.stop, suppress=barred)
    model, lengths = ours.network.language_model, [len(part) for part in parts]
    assert len(set(lengths)) == 3
    together = continue_prefixes(model, torch.cat(parts), lengths, [40] * 3, search)
    for wave, part, batched in zip(waves, parts, together, strict=True):
        theirs = published.written(wave, PROMPT, 40)
        (alone,) = continue_prefixes(model, part, [len(part)], [40], search)
        assert len(theirs) == 40 and len(set(theirs)) > 5
        assert alone.tokens == batched.tokens == theirs


def test_a_segment_is_recognised_the_same_alone_and_in_a_batch(ours: NemotronRecogniser) -> None:
    options = TranscriptionOptions(word_times=True, beam_size=2, guard=False)
    parts = segments([*clips()[:2], clips()[0][:100]])
    found = ours.recognise(parts, [None] * 3, options)
    assert found[2].text == ""
    for part, result in zip(parts[:2], found[:2], strict=True):
        (alone,) = ours.recognise([part], [None], options)
        assert (alone.text, alone.tags, alone.words) == (result.text, result.tags, result.words)
        assert alone.score == pytest.approx(result.score, abs=1e-4)
        assert result.text and "<spk" not in result.text and "<|" not in result.text


def test_words_have_times_and_speakers(ours: NemotronRecogniser) -> None:
    (segment,) = segments(clips()[:1])
    _, speech = ours.encode(segment)
    words = ours._words(segment, [Turn("1", "The birch canoe"), Turn("0", "slid 船")], speech)
    assert [(word.text, word.speaker) for word in words] == [
        ("The", "1"), ("birch", "1"), ("canoe", "1"), ("slid", "0"), ("船", "0"),
    ]  # fmt: skip
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges) and 1.0 <= edges[0] and edges[-1] <= 1.0 + len(segment.samples) / 16000
    assert edges[0] < edges[-1]


def test_turns_name_their_speakers() -> None:
    assert [(turn.speaker, turn.text) for turn in turns_of("Well. <spk:0> Hi <ev:laughter> you.<SPK:01>Hello.")] == [
        (None, "Well."), ("0", "Hi you."), ("1", "Hello."),
    ]  # fmt: skip
    assert turns_of("<spk:0> ") == []


def test_experts_as_nvidia_stores_them_are_read_too(
    published: Published, ours: NemotronRecogniser, tmp_path: Path
) -> None:
    """All of a layer in one tensor, inputs before outputs, beside tensors that nobody here needs."""
    stored: dict[str, Any] = load_file(published.directory / "model.safetensors")
    experts = sorted({name.split(".experts.")[0] for name in stored if ".experts." in name})
    for path in experts:
        for part, fused in (("up_proj", "gate_and_up_projs"), ("down_proj", "down_projs")):
            each = [stored.pop(f"{path}.experts.{e}.{part}.weight").T for e in range(6)]
            stored[f"{path}.experts.{fused}"] = torch.stack(each).contiguous()
    stored["llm.mtp.layers.0.norm.weight"] = torch.zeros(3)
    stored["ctc_timestamp.tokenizer.model_proto"] = torch.zeros(5, dtype=torch.uint8)
    save_file(stored, tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((published.directory / name).read_bytes())
    assert identify(tmp_path).name == "nemotron"
    other = load(ModelOptions(directory=tmp_path, device="cpu", compute_type="float32"))
    mine, theirs = ours.network.state_dict(), other.network.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert "word times" in other.info.notes[0]


def test_a_folder_that_was_made_small_is_read_again(
    published: Published, ours: NemotronRecogniser, tmp_path: Path
) -> None:
    shrink_to_int4(published.directory, tmp_path)
    small = load(ModelOptions(directory=tmp_path, device="cpu", compute_type="int4"))
    direct = load(ModelOptions(directory=published.directory, device="cpu", compute_type="int4"))
    assert not small.info.notes
    part = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = (model.network.language_model(part, [9]) for model in (small, direct))
    assert worst(found, expected) < 1e-5


@pytest.mark.parametrize("compute_type", ["int8", "int4"])
def test_small_weights_write_nearly_what_float32_does(
    published: Published, ours: NemotronRecogniser, compute_type: str
) -> None:
    small = load(ModelOptions(directory=published.directory, device="cpu", compute_type=compute_type))
    (segment,) = segments(clips()[:1])
    with torch.inference_mode():
        part = ours.prefix(ours.encode(segment)[0], TranscriptionOptions())
        expected = ours.network.language_model(part, [len(part)])
        found = small.network.language_model(part, [len(part)])
    similar = torch.nn.functional.cosine_similarity(found.float(), expected, dim=-1)
    # Of all tokens some choose other experts, and are far away.
    assert float(similar.median()) > (0.99 if compute_type == "int8" else 0.9)


def test_names_and_shapes_at_the_published_size_are_those_of_transformers(tmp_path: Path) -> None:
    config = Nemotron3_5TranscribeConfig()
    with torch.device("meta"):
        reference = Nemotron3_5TranscribeForConditionalGeneration(config)
    theirs = sum(parameter.numel() for parameter in reference.parameters())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nemo_speechlm"}))
    ours = from_published(json.loads(json.dumps(config.to_dict())), "config.json")
    assert ours == from_published({"model_type": "nemo_speechlm"}, "config.json")
    names = names_of(["llm.model.layers.0.mixer._fp32_params.A_log", "llm.model.norm.weight",
                      "llm.model.embed_tokens.weight"])  # fmt: skip
    shapes = published_shapes(ours, names)
    assert {name for recipe in recipes(ours, names).values() for name in recipe.names} == set(shapes)
    # The router's corrections are no parameters there; the silence between chunks is not read here.
    stored = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert stored - 128 * ours.text.layers.count("experts") + ours.speakers.frames.dim == theirs
    cost = describe(tmp_path, 4.0)
    # NVIDIA says 34 B and 4.3 B; its files also have layers that draft tokens, which are not read.
    assert round(cost.parameters["model"] / 1e9, 1) == 32.4
    assert round(cost.active_parameters["model"] / 1e9, 1) == 4.4
