"""Qwen's models in narrow arithmetic, from several files and damaged ones."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.kernels.products import int8_steps
from fun_asr.layers.causal_lm import CausalLM
from fun_asr.layers.decoder import TokenEmbedding
from fun_asr.layers.moe import RoutedExperts
from fun_asr.models.qwen3.recogniser import describe, load
from fun_asr.models.registry import identify, load_recogniser
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.weights.int4 import dequantize_int4, quantize_int4
from fun_asr.weights.int8 import quantize
from fun_asr.weights.precision import bfloat16_is_fast
from fun_asr.weights.shrink import shrink_to_int8
from tests.models.qwen3.conftest import Published, as_qwen_writes
from tests.models.reference import clips, segments

SHORT = [clip[:24_000] for clip in clips()[:2]]


def options_of(directory: Path, compute_type: str = "float32", aligner: Path | None = None) -> ModelOptions:
    return ModelOptions(directory=directory, device="cpu", compute_type=compute_type, aligner=aligner)


@torch.no_grad()
def rounded(model: CausalLM, compute_type: str) -> CausalLM:
    """A float32 model with the values that matrices of integers have."""

    def int8(rows: torch.Tensor) -> torch.Tensor:
        integers, scale = quantize("", rows)
        return integers * scale

    def narrow(rows: torch.Tensor) -> torch.Tensor:
        if compute_type == "int8":
            return int8(rows)
        return dequantize_int4(*quantize_int4(rows), rows.shape[-1])

    for module in model.modules():
        if isinstance(module, TokenEmbedding):
            module.weight.copy_(int8(module.weight))
        elif isinstance(module, nn.Linear):
            module.weight.copy_(narrow(module.weight))
        elif isinstance(module, RoutedExperts):
            for matrices in (module.gate_up_EHD, module.down_EDF):
                for matrix in matrices:
                    matrix.copy_(narrow(matrix))
    return model


@pytest.mark.parametrize(("compute_type", "close"), [("bfloat16", 0.15), ("int8", 0.05), ("int4", 0.15)])
@pytest.mark.parametrize("kind", ["asr", "omni"])
def test_narrow_arithmetic_stays_close(
    request: pytest.FixtureRequest, kind: str, compute_type: str, close: float
) -> None:
    published: Published = request.getfixturevalue(kind)
    exact = load(options_of(published.directory))
    narrow = load(options_of(published.directory, compute_type))
    assert compute_type in narrow.info.arithmetic["language_model"]
    with torch.inference_mode():
        expected, found = (torch.cat(model.encode(segments(SHORT))).float() for model in (exact, narrow))
        assert (found - expected).norm() < 0.1 * expected.norm()
        model = exact.network.language_model
        if compute_type != "bfloat16":
            model = rounded(model, compute_type)
        tokens = torch.arange(60)
        expected, found = (lm(lm.embed(tokens), [60]).float() for lm in (model, narrow.network.language_model))
        if compute_type == "int8":
            close *= 127 / (int8_steps() or 127)  # inputs have 7 bits on a processor without VNNI
        assert (found - expected).norm() < close * expected.norm()
    written = narrow.recognise(segments(SHORT), ["en"] * 2, TranscriptionOptions(beam_size=2, guard=False))
    assert all(segment.text for segment in written)


@pytest.mark.skipif(not bfloat16_is_fast(torch.device("cpu")), reason="float32 is faster here")
def test_int4_keeps_keys_and_values_in_bfloat16_and_writes_as_with_float32(asr: Published) -> None:
    narrow = load(options_of(asr.directory, "int4"))
    model = narrow.network.language_model
    assert model.cache_dtype is torch.bfloat16
    with torch.inference_mode():
        logits = {}
        for dtype in (torch.bfloat16, None):
            model.cache_dtype = dtype
            _, cache = model.start(model.embed(torch.arange(60)), [25, 35])
            logits[dtype] = model.step(torch.tensor([3, 4]), cache)
    assert (logits[torch.bfloat16] - logits[None]).norm() < 0.02 * logits[None].norm()


def test_several_files_and_stored_integers_give_one_model(asr: Published, tmp_path: Path) -> None:
    asr.model.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    asr.tokenizer.save_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    raw = TranscriptionOptions(beam_size=1, guard=False)
    whole, sharded = (
        load(options_of(directory)).recognise(segments(SHORT), ["en"] * 2, raw)
        for directory in (asr.directory, tmp_path / "shards")
    )
    assert [segment.text for segment in whole] == [segment.text for segment in sharded]
    shrink_to_int8(asr.directory, tmp_path / "int8")
    with torch.inference_mode():
        tokens = torch.arange(60)
        now, stored = (
            model(model.embed(tokens), [60])
            for directory in (asr.directory, tmp_path / "int8")
            for model in [load(options_of(directory, "int8")).network.language_model]
        )
    assert torch.equal(now, stored)


def test_an_output_projection_that_is_stored_counts_only_where_it_differs(asr: Published, tmp_path: Path) -> None:
    folder = as_qwen_writes(asr, tmp_path)
    assert load(options_of(folder)).network.language_model.head is None
    tensors = load_file(folder / "model.safetensors")
    tensors["thinker.lm_head.weight"] = tensors["thinker.lm_head.weight"] + 1
    save_file(tensors, folder / "model.safetensors")
    head = load(options_of(folder)).network.language_model.head
    assert head is not None and torch.equal(head.weight, tensors["thinker.lm_head.weight"])


def test_the_registry_knows_them_and_refuses_an_aligner_as_a_model(asr: Published, aligner: Published) -> None:
    assert identify(asr.directory).name == "qwen3"
    with pytest.raises(CheckpointError, match="is a forced aligner"):
        load_recogniser(options_of(aligner.directory))
    with pytest.raises(CheckpointError, match="is no forced aligner"):
        load_recogniser(options_of(asr.directory, aligner=asr.directory))
    with pytest.raises(ConfigError, match="finds the times of its words itself"):
        load_recogniser(ModelOptions(directory=Path("fun_asr/assets/model"), aligner=aligner.directory))
    with pytest.raises(ConfigError, match="int4 is for models with a language model"):
        load_recogniser(ModelOptions(directory=Path("fun_asr/assets/model"), device="cpu", compute_type="int4"))


@pytest.mark.parametrize(
    ("file", "change", "cause"),
    [
        ("config.json", {"audio_config": None}, "has no audio_config"),
        ("config.json", {"text_config": {"num_hidden_layers": 1000}}, "num_hidden_layers"),
        ("config.json", {"audio_config": {"n_window_infer": 250}}, "n_window_infer"),
        ("tokenizer.json", None, "no vocabulary beside the weights"),
        ("tokenizer.json", {"added_tokens": []}, "no token <|im_start|>"),
    ],
)
def test_what_a_folder_lacks_is_named(
    asr: Published, tmp_path: Path, file: str, change: dict[str, object] | None, cause: str
) -> None:
    for path in asr.directory.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / file).unlink()
    if change is None:
        for path in (asr.directory / "vocab.json", asr.directory / "merges.txt"):
            (tmp_path / path.name).unlink(missing_ok=True)
    else:
        values = json.loads((asr.directory / file).read_text("utf-8"))
        for key, value in change.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) else value
        (tmp_path / file).write_text(json.dumps(values), "utf-8")
    with pytest.raises(CheckpointError, match=cause.replace("|", "\\|")) as error:
        load(options_of(tmp_path))
    assert "\n" not in str(error.value)


def test_options_that_a_model_cannot_follow_are_refused(asr: Published, omni: Published) -> None:
    for published, options, cause in (
        (asr, TranscriptionOptions(decoding="ctc"), "no CTC head"),
        (asr, TranscriptionOptions(temperature_fallback=True), "draws nothing"),
        (omni, TranscriptionOptions(initial_prompt="Fox"), "takes no text"),
    ):
        with pytest.raises(ConfigError, match=cause):
            load(options_of(published.directory)).prepare(options)


def test_costs_count_the_experts_that_a_token_passes(asr: Published, omni: Published) -> None:
    for published in (asr, omni):
        cost = describe(published.directory, 4.0)
        network = load(options_of(published.directory)).network
        assert cost.parameters["model"] == sum(p.numel() for p in network.parameters())
        assert cost.flops_per_second["language_model"] > cost.flops_per_second["encoder"] * 0.1 > 0
