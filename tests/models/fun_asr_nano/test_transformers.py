"""Fun-ASR-Nano here and in transformers: the same frames, logits and tokens, alone and in a batch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import FunAsrNanoConfig, FunAsrNanoForConditionalGeneration

from fun_asr.audio.kaldi_features import stacked_fbank
from fun_asr.decoding.prefixed import continue_prefixes
from fun_asr.errors import CheckpointError
from fun_asr.models.fun_asr_nano.config import from_transformers
from fun_asr.models.fun_asr_nano.recogniser import NanoRecogniser, is_own, load
from fun_asr.models.fun_asr_nano.weights import weight_table
from fun_asr.models.registry import identify
from fun_asr.options import ModelOptions, TranscriptionOptions
from tests.models.fun_asr_nano.folders import LANGUAGE_MODEL, SPECIAL, write_tokenizer
from tests.models.reference import clips, randomise, segments, shapes_of, worst

FLOAT32: dict[str, Any] = {"device": "cpu", "compute_type": "float32"}
AUDIO, END = 256 + SPECIAL.index("<|object_ref_start|>"), 256 + SPECIAL.index("<|im_end|>")
TOKENS = 40
OPTIONS = TranscriptionOptions(itn=True, beam_size=1)


@dataclass(frozen=True)
class Published:
    directory: Path
    model: Any
    recogniser: NanoRecogniser


def small_config() -> FunAsrNanoConfig:
    return FunAsrNanoConfig(
        audio_config={
            "model_type": "fun_asr_nano_encoder", "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64,
            "num_hidden_layers": 5, "num_timestamp_prediction_layers": 2, "fsmn_kernel_size": 5,
        },
        adaptor_config={
            "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 8, "projector_hidden_size": 48,
        },
        text_config={**LANGUAGE_MODEL, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        audio_token_id=AUDIO,
    )  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    directory = tmp_path_factory.mktemp("nano")
    model = FunAsrNanoForConditionalGeneration(small_config()).eval()
    # transformers 5.24 leaves the adaptor without a way to attend and adds its mask to the scores as zeros and ones: a
    # padded batch then has other vectors.
    model.set_attn_implementation("sdpa")
    randomise(model.model.audio_tower, 3)
    randomise(model.model.multi_modal_projector, 4)
    randomise(model.model.language_model, 5, 0.3)
    model.generation_config.eos_token_id = [END, 255]
    model.save_pretrained(directory)
    write_tokenizer(directory)
    values = json.loads((directory / "config.json").read_text())
    # transformers reads every vector.
    (directory / "config.json").write_text(json.dumps({**values, "use_low_frame_rate": False}))
    return Published(directory, model, load(ModelOptions(directory=directory, **FLOAT32)))


def inputs(published: Published, places: list[int], languages: list[str | None]) -> dict[str, torch.Tensor]:
    """A batch as transformers' processor makes it: padded on the left, a placeholder for each vector of the speech."""
    waves = clips()
    features, lengths = stacked_fbank([waves[i] for i in places])
    rows = []
    for length, language in zip(lengths.tolist(), languages, strict=True):
        before, after = published.recogniser.prompt(language, OPTIONS)
        rows.append([*before, *[AUDIO] * length, *after])
    width = max(map(len, rows))
    mask = torch.arange(features.shape[1]) < lengths[:, None]
    return {
        "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        "input_features": features,
        "input_features_mask": mask.long(),
    }


def test_frames_vectors_and_logits_are_those_of_transformers(published: Published) -> None:
    places, languages = [0, 3, 1], [None, "en", "zh"]
    batch = inputs(published, places, languages)
    recogniser, network = published.recogniser, published.recogniser.network
    with torch.inference_mode():
        reference = published.model.model.audio_tower(batch["input_features"], batch["input_features_mask"])[0]
        vectors = published.model.get_audio_features(batch["input_features"], batch["input_features_mask"])
        vectors = vectors.pooler_output.split(batch["input_features_mask"].sum(dim=1).tolist())
        logits = published.model(**batch).logits
        encoded = recogniser.encode(dict(enumerate(segments([clips()[i] for i in places]))))
        for row, language in enumerate(languages):
            assert worst(encoded[row], reference[row, : len(encoded[row])]) < 1e-4
            adapted = recogniser.adapted(encoded[row])
            assert worst(adapted, vectors[row]) < 1e-4
            prefix = recogniser.prefix(language, OPTIONS, adapted)
            ours = network.language_model.logits(network.language_model(prefix, [len(prefix)]))
            assert worst(ours, logits[row, -len(prefix) :]) < 1e-4


def test_greedy_tokens_are_those_of_transformers_alone_and_in_a_batch(published: Published) -> None:
    languages = [None, "en", "zh", None, "ja", None, "en"]
    recogniser = published.recogniser
    with torch.inference_mode():
        encoded = recogniser.encode(dict(enumerate(segments(clips()))))
        prefixes = [recogniser.prefix(languages[i], OPTIONS, recogniser.adapted(encoded[i])) for i in range(7)]
        lengths = [len(prefix) for prefix in prefixes]
        together = continue_prefixes(
            recogniser.network.language_model, torch.cat(prefixes), lengths, [TOKENS] * 7, recogniser._search
        )
        for i in range(7):
            batch = inputs(published, [i], [languages[i]])
            expected = published.model.generate(**batch, max_new_tokens=TOKENS, do_sample=False)[0]
            expected = expected[batch["input_ids"].shape[1] :].tolist()
            if expected[-1] in (END, 255):
                expected = expected[:-1]
            (alone,) = continue_prefixes(
                recogniser.network.language_model, prefixes[i], [lengths[i]], [TOKENS], recogniser._search
            )
            assert alone.tokens == together[i].tokens == expected
        assert max(len(found.tokens) for found in together) == TOKENS
        assert len({tuple(found.tokens) for found in together}) > 1


def test_the_published_size_has_the_names_and_shapes_of_transformers() -> None:
    config = FunAsrNanoConfig()
    with torch.device("meta"):
        reference = shapes_of(FunAsrNanoForConditionalGeneration(config))
    ours = from_transformers(config.to_dict(), "config.json")
    shapes = weight_table(ours, upstream=False).shapes
    assert shapes == {name: shape for name, shape in reference.items() if name != "lm_head.weight"}
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 829_791_840
    assert ours.low_frame_rate and ours.language_model.tied


def test_a_folder_of_transformers_is_recognised_and_its_text_is_that_of_its_tokens(published: Published) -> None:
    assert is_own(published.directory) and identify(published.directory).name == "fun_asr_nano"
    recogniser = published.recogniser
    assert recogniser.info.notes and not recogniser.info.family.endswith("-hf")
    (found,) = recogniser.recognise(segments(clips()[:1]), ["en"], OPTIONS)
    assert found.language == "en" and not found.word_times and not found.words


def test_shards_are_read_and_the_first_eighth_is_what_is_read_by_default(published: Published, tmp_path: Path) -> None:
    published.model.save_pretrained(tmp_path, max_shard_size="60KB")
    write_tokenizer(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    sharded = load(ModelOptions(directory=tmp_path, **FLOAT32))
    segment = segments(clips())[0]
    with torch.inference_mode():
        encoded = sharded.encode({0: segment})[0]
        assert torch.equal(encoded, published.recogniser.encode({0: segment})[0])
        assert len(sharded.adapted(encoded)) == -(-len(encoded) // 8)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("audio_config", "fsmn_kernel_size", 4),
        ("audio_config", "num_hidden_layers", 10**6),
        ("audio_config", "hidden_act", "gelu"),
        ("adaptor_config", "hidden_size", 64),
        ("text_config", "num_key_value_heads", 3),
    ],
)
def test_configurations_that_are_not_built_are_refused(section: str, key: str, value: object) -> None:
    values = small_config().to_dict()
    values[section][key] = value
    with pytest.raises(CheckpointError, match=r"config\.json"):
        from_transformers(values, "config.json")
