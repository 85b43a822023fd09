"""The published layouts load to the same network; what is damaged or does not fit is said in one line."""

import json
import os
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from fun_asr.errors import CheckpointError, ConfigError, FunASRError
from fun_asr.models.registry import identify
from fun_asr.models.whisper.checkpoint import open_checkpoint
from fun_asr.models.whisper.features import padded_log_mel
from fun_asr.models.whisper.load import load_network
from fun_asr.models.whisper.network import Whisper
from fun_asr.models.whisper.recogniser import load
from fun_asr.options import ModelOptions
from fun_asr.weights.int8 import Int8Linear
from fun_asr.weights.precision import ComputeType
from tests.models.whisper.conftest import (
    GENERATION,
    LETTERS,
    SPECIAL,
    WINDOW,
    ctranslate2_variables,
    openai_values,
    quantized,
    random_whisper,
    save_ctranslate2,
    save_transformers,
    token,
    write_ctranslate2,
    write_tokenizer,
)

CPU = torch.device("cpu")


def network_of(path: Path, compute_type: ComputeType = ComputeType.FLOAT32) -> Whisper:
    return load_network(open_checkpoint(path), CPU, compute_type)


def outputs(network: Whisper) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 80, WINDOW, generator=generator)
    tokens = torch.randint(0, 27, (1, 8), generator=generator)
    with torch.inference_mode():
        encoded = network.encode(features, torch.tensor([WINDOW]))
        return network.decoder.embedding.logits(network.decoder(tokens, encoded)).float()


@pytest.fixture(scope="session")
def reference(whisper: WhisperForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    return outputs(network_of(save_transformers(whisper, tmp_path_factory.mktemp("whisper"))))


def save_openai(model: WhisperForConditionalGeneration, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    torch.save(openai_values(model), directory / "small.pt")
    write_tokenizer(directory / "tokenizer.json")
    return directory


LAYOUTS: dict[str, Callable[[WhisperForConditionalGeneration, Path], Path]] = {
    "one file": save_transformers,
    "sharded": lambda model, path: save_transformers(model, path, "60KB"),
    "OpenAI": save_openai,
    "CTranslate2": save_ctranslate2,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_network(
    whisper: WhisperForConditionalGeneration, reference: Tensor, tmp_path: Path, layout: str
) -> None:
    directory = LAYOUTS[layout](whisper, tmp_path / "model")
    if layout == "sharded":
        assert len(list(directory.glob("model-*.safetensors"))) > 3
    assert identify(directory).name == "whisper"
    torch.testing.assert_close(outputs(network_of(directory)), reference, atol=1e-5, rtol=0)
    assert load(ModelOptions(directory=directory, device="cpu", compute_type="int8")).languages == ("en", "zh", "de")


def test_a_model_saved_without_its_output_projection_loads(
    whisper: WhisperForConditionalGeneration, reference: Tensor, folder: Path
) -> None:
    state = {name: tensor.contiguous() for name, tensor in whisper.model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    torch.testing.assert_close(outputs(network_of(folder)), reference, atol=1e-5, rtol=0)


def test_a_pt_file_may_be_named_itself(
    whisper: WhisperForConditionalGeneration, reference: Tensor, tmp_path: Path
) -> None:
    path = save_openai(whisper, tmp_path) / "small.pt"
    assert identify(path).name == "whisper"
    torch.testing.assert_close(outputs(network_of(path)), reference, atol=1e-5, rtol=0)
    torch.save(openai_values(whisper), tmp_path / "second.pt")
    with pytest.raises(CheckpointError, match=r"holds 2 \.pt files; name the one to load"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["int8", "int8_float16", "int16", "float16"])
def test_quantised_ctranslate2_models_are_scaled(
    whisper: WhisperForConditionalGeneration, reference: Tensor, tmp_path: Path, kind: str
) -> None:
    variables = quantized(ctranslate2_variables(whisper), kind)
    directory = save_ctranslate2(whisper, tmp_path, kind)
    network = network_of(directory)
    matrix = variables["decoder/layer_1/ffn/linear_0/weight"].astype(np.float32)
    scale = variables.get("decoder/layer_1/ffn/linear_0/weight_scale", np.ones(1, np.float32))
    expected = matrix / scale.reshape(-1, 1)
    found = network.get_parameter("decoder.blocks.1.ffn.shared.up.weight")
    torch.testing.assert_close(found.detach(), torch.from_numpy(expected))
    off = (outputs(network) - reference).abs().mean() / reference.abs().mean()
    assert off < 0.05


def test_the_integers_of_an_int8_file_are_computed_with_as_they_are(
    whisper: WhisperForConditionalGeneration, tmp_path: Path
) -> None:
    variables = quantized(ctranslate2_variables(whisper), "int8")
    network = network_of(save_ctranslate2(whisper, tmp_path, "int8"), ComputeType.INT8)
    layer = network.get_submodule("decoder.blocks.0.self_attention.qkv")
    assert isinstance(layer, Int8Linear)
    x = torch.eye(32)
    expected = variables["decoder/layer_0/self_attention/linear_0/weight"] / variables[
        "decoder/layer_0/self_attention/linear_0/weight_scale"
    ].reshape(-1, 1)
    torch.testing.assert_close(
        layer(x) - layer(torch.zeros(1, 32)), torch.from_numpy(expected.T).float(), atol=1e-3, rtol=0.02
    )


@pytest.mark.parametrize("compute_type", [ComputeType.BFLOAT16, ComputeType.INT8])
def test_narrow_arithmetic_stays_near(folder: Path, reference: Tensor, compute_type: ComputeType) -> None:
    found = outputs(network_of(folder, compute_type))
    assert (found - reference).abs().mean() / reference.abs().mean() < 0.05


def test_compute_types_stay_where_they_belong(folder: Path) -> None:
    with pytest.raises(ConfigError, match="float16 runs on a GPU only"):
        load(ModelOptions(directory=folder, device="cpu", compute_type="float16"))
    with pytest.raises(ConfigError, match="int8 runs on the CPU only"):
        load_network(open_checkpoint(folder), torch.device("cuda"), ComputeType.INT8)


def test_128_mels_and_turbo_load(tmp_path: Path) -> None:
    model = random_whisper(n_mels=128, decoder_layers=4)
    network = network_of(save_transformers(model, tmp_path))
    assert (network.config.n_mels, network.config.decoder_layers, network.config.encoder_layers) == (128, 4, 3)
    assert padded_log_mel([np.zeros(9, np.float32)], n_mels=128, frames=8).shape == (1, 128, 8)


def test_vocabulary_and_merges_serve_where_there_is_no_tokenizer_json(folder: Path) -> None:
    tokenizer = load(ModelOptions(directory=folder, device="cpu", compute_type="float32"))._tokenizer
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(LETTERS))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "added_tokens.json").write_text(json.dumps({f"<|{name}|>": token(name) for name in SPECIAL}))
    other = load(ModelOptions(directory=folder, device="cpu", compute_type="float32"))._tokenizer
    assert other.encode("a word") == tokenizer.encode("a word")
    assert other.decode([0, 26, 1]) == tokenizer.decode([0, 26, 1]) == "a b"
    assert (other.languages, other.no_speech, other.previous) == (
        tokenizer.languages,
        tokenizer.no_speech,
        tokenizer.previous,
    )


def rewrite_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["model.decoder.layers.1.fc1.weight"]
    save_file(state, folder / "model.safetensors")


def with_tensor(folder: Path) -> None:
    save_file(load_file(folder / "model.safetensors") | {"lora.weight": torch.zeros(2)}, folder / "model.safetensors")


def with_shape(folder: Path) -> None:
    state = load_file(folder / "model.safetensors") | {"model.decoder.layers.1.fc1.weight": torch.zeros(128, 31)}
    save_file(state, folder / "model.safetensors")


def with_projection(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(state | {"proj_out.weight": 1 + state["model.decoder.embed_tokens.weight"]}, folder / "model.safetensors")


def cut(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 5000)


def one_layer(folder: Path) -> None:
    rewrite_json(folder / "config.json", decoder_layers=1)
    rewrite_json(folder / "generation_config.json", alignment_heads=[])


def index_of(shards: object) -> Callable[[Path], None]:
    return lambda folder: (
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards})) and None
    )


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (without_tensor, r"model\.safetensors: has no tensor model\.decoder\.layers\.1\.fc1\.weight"),
    "extra": (with_tensor, r"model\.safetensors: the tensor lora\.weight has no place in the configured network"),
    "shape": (with_shape, r"fc1\.weight has the shape \[128, 31\], the configuration asks for \[128, 32\]"),
    "projection": (with_projection, r"proj_out\.weight differs from the embeddings"),
    "truncated": (cut, r"model\.safetensors: damaged or incomplete"),
    "no shard": (
        index_of({"a": "model-00001-of-00002.safetensors"}),
        r"names the file model-00001-of-00002\.safetensors, which is missing",
    ),
    "outside": (
        index_of({"a": "../model.safetensors"}),
        r"index\.json: names the file '\.\./model\.safetensors', which is not in this folder",
    ),
    "no map": (index_of([]), r"index\.json: has no weight_map"),
    "index only": (index_of({"a": "model.safetensors"}), r"has no tensor a, which the index says is there"),
    "layers": (
        lambda d: rewrite_json(d / "config.json", encoder_layers=2**40),
        r"config\.json: encoder_layers is 1099511627776, not a whole number from 1 to 256",
    ),
    "width": (lambda d: rewrite_json(d / "config.json", d_model=-1), r"config\.json: d_model is -1"),
    "word": (lambda d: rewrite_json(d / "config.json", vocab_size="many"), r"config\.json: vocab_size is many"),
    "heads": (
        lambda d: rewrite_json(d / "config.json", decoder_attention_heads=3),
        r"config\.json: the width 32 is no multiple of 3 heads",
    ),
    "more layers": (
        lambda d: rewrite_json(d / "config.json", decoder_layers=200),
        r"has no tensor model\.decoder\.layers\.2\.",
    ),
    "fewer layers": (lambda d: one_layer(d), r"the tensor model\.decoder\.layers\.1\.\S+ has no place"),
    "activation": (
        lambda d: rewrite_json(d / "config.json", activation_function="relu"),
        r"config\.json: activation_function is 'relu'",
    ),
    "no json": (lambda d: (d / "config.json").write_text("{"), r"config\.json: no valid JSON"),
    "a list": (lambda d: (d / "config.json").write_text("[]"), r"config\.json: not an object"),
    "alignment": (
        lambda d: rewrite_json(d / "generation_config.json", alignment_heads=[[9, 0]]),
        r"generation_config\.json: alignment_heads names layer 9, head 0",
    ),
    "suppressed": (
        lambda d: rewrite_json(d / "generation_config.json", suppress_tokens="all"),
        r"generation_config\.json: suppress_tokens is no list of tokens",
    ),
    "vocabulary": (
        lambda d: (d / "tokenizer.json").unlink(),
        r"no vocabulary beside the weights; put the model's tokenizer\.json, or vocab\.json and merges\.txt, there",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_names_the_file(folder: Path, fault: str) -> None:
    change, message = FAULTS[fault]
    change(folder)
    with pytest.raises(CheckpointError, match=message) as raised:
        load(ModelOptions(directory=folder, device="cpu", compute_type="float32"))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(folder))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"dims": {"n_audio_ctx": 1}, "model_state_dict": {"a": Code()}}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt: damaged, or no weights saved by PyTorch"):
        open_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Code()))
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        open_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_tensor_that_claims_more_than_the_file_has_is_refused(
    whisper: WhisperForConditionalGeneration, tmp_path: Path
) -> None:
    values = openai_values(whisper)
    values["dims"]["n_vocab"] = 1_000_000
    values["model_state_dict"]["decoder.token_embedding.weight"] = torch.zeros(1, 1).expand(1_000_000, 32)
    torch.save(values, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"decoder\.token_embedding\.weight is not laid out as it was saved"):
        open_checkpoint(tmp_path)


def test_dims_out_of_range_are_named(whisper: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    values = openai_values(whisper)
    values["dims"]["n_text_layer"] = 2**40
    torch.save(values, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt: n_text_layer is 1099511627776"):
        open_checkpoint(tmp_path)


def test_missing_scales_are_named(whisper: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    directory = save_ctranslate2(whisper, tmp_path, "int8")
    variables = quantized(ctranslate2_variables(whisper), "int8")
    del variables["encoder/layer_0/ffn/linear_0/weight_scale"]
    write_ctranslate2(directory / "model.bin", variables)
    with pytest.raises(
        CheckpointError, match=r"model\.bin: damaged \('encoder/layer_0/ffn/linear_0/weight_scale' is missing\)"
    ):
        network_of(directory)


def test_other_models_are_named_by_their_type(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        CheckpointError,
        match=r"config\.json has the model_type 'llama', which is no known family; known: fun_asr, whisper, p",
    ):
        identify(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json has no model_type"):
        identify(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        identify(tmp_path)
    with pytest.raises(CheckpointError, match="no model directory"):
        identify(tmp_path / "nowhere")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: no model in one file that is known"):
        identify(tmp_path / "other.pt")


def test_the_bundled_model_is_known(tiny_model_dir: Path) -> None:
    assert identify(tiny_model_dir).name == "fun_asr"


# Flipped bytes and cut files: an error of ours or a network, never another exception, and never slow.
CASES = int(os.environ.get("FUZZ_CASES", "150"))


@pytest.fixture(scope="session")
def folders(whisper: WhisperForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fuzzed")
    return {
        "model.safetensors": save_transformers(whisper, root / "safetensors"),
        "model.safetensors.index.json": save_transformers(whisper, root / "index", "60KB"),
        "config.json": save_transformers(whisper, root / "config"),
        "generation_config.json": save_transformers(whisper, root / "generation"),
        "tokenizer.json": save_transformers(whisper, root / "tokenizer"),
        "small.pt": save_openai(whisper, root / "pt"),
        "model.bin": save_ctranslate2(whisper, root / "int8", "int8_float16"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "small.pt",
        "model.bin",
    ],
)
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_damaged_files_are_refused_in_one_line_or_read(
    folders: dict[str, Path], name: str, data: st.DataObject
) -> None:
    folder = folders[name]
    path = folder / name
    original = path.read_bytes()
    damaged = bytearray(original)
    # Most of a file are weights; what describes them is at its beginning, in a `.pt` also at its end.
    near = st.one_of(
        st.integers(0, min(len(original), 4000) - 1), st.integers(max(0, len(original) - 4000), len(original) - 1)
    )
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.one_of(near, st.integers(0, len(original) - 1)))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(original) - 1)) :]
    start = time.monotonic()
    try:
        path.write_bytes(damaged)
        load(ModelOptions(directory=folder, device="cpu", compute_type="float32"))
    except FunASRError as error:
        assert "\n" not in str(error)
        assert str(folder) in str(error)
    finally:
        path.write_bytes(original)
    assert time.monotonic() - start < 20


def test_sizes_beyond_the_file_take_no_memory(whisper: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    directory = save_ctranslate2(whisper, tmp_path)
    data = bytearray((directory / "model.bin").read_bytes())
    name = b"decoder/embeddings/weight\0"
    place = data.index(name) + len(name) + 1
    struct.pack_into("<II", data, place, 2**32 - 1, 2**32 - 1)
    (directory / "model.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.bin: no complete CTranslate2 model \(damaged at byte"):
        open_checkpoint(directory)


def test_what_is_published_of_the_search_is_read_from_every_layout(
    whisper: WhisperForConditionalGeneration, tmp_path: Path
) -> None:
    for save in (save_transformers, save_ctranslate2):
        generation = open_checkpoint(save(whisper, tmp_path / save.__name__)).generation
        assert generation.suppress == tuple(GENERATION["suppress_tokens"])
        assert generation.suppress_first == tuple(GENERATION["begin_suppress_tokens"])
        assert generation.alignment_heads == ((1, 0), (1, 1))
    assert open_checkpoint(save_openai(whisper, tmp_path / "openai")).generation.suppress is None
