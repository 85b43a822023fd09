"""Folders that `fun-asr convert` wrote with smaller weights: they compute as the ones they come of."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

from fun_asr.cli import main
from fun_asr.errors import CheckpointError
from fun_asr.kernels.products import int8_steps
from fun_asr.models.qwen3.aligner import load_aligner
from fun_asr.models.qwen3.recogniser import load
from fun_asr.options import ModelOptions
from fun_asr.weights import matrices
from fun_asr.weights.load import describe_network
from tests.models.qwen3.conftest import Published, as_qwen_writes
from tests.models.reference import clips, segments


@torch.inference_mode()
def computed(directory: Path, compute_type: str) -> tuple[Tensor, Tensor]:
    """Vectors of speech and logits of a text."""
    model = load(ModelOptions(directory=directory, device="cpu", compute_type=compute_type))
    language_model = model.network.language_model
    tokens = torch.arange(40)
    return (
        torch.cat(model.encode(segments([clips()[0][:24_000]]))).float(),
        language_model.logits(language_model(language_model.embed(tokens), [40])),
    )


def convert(kind: str, directory: Path, output: Path) -> Path:
    result = CliRunner().invoke(main, ["convert", kind, str(directory), str(output)])
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
    return output


def rewritten(published: Published, layout: str, directory: Path) -> Path:
    """The same weights in a folder of transformers, of Qwen, or with all experts of a layer in one tensor."""
    if layout == "transformers":
        return published.directory
    if layout == "qwen":
        return as_qwen_writes(published, directory)
    directory.mkdir()
    for path in published.directory.iterdir():
        (directory / path.name).symlink_to(path)
    tensors = load_file(published.directory / "model.safetensors")
    stem = "model.layers.0.mlp.experts."
    each = [f"{stem}{e}" for e in range(8)]
    gate_up = [torch.cat([tensors.pop(f"{name}.{part}_proj.weight") for part in ("gate", "up")]) for name in each]
    tensors[f"{stem}gate_up_proj"] = torch.stack(gate_up)
    tensors[f"{stem}down_proj"] = torch.stack([tensors.pop(f"{name}.down_proj.weight") for name in each])
    (directory / "model.safetensors").unlink()
    save_file(tensors, directory / "model.safetensors")
    return directory


@pytest.mark.parametrize("compute_type", ["int8", "int4"])
@pytest.mark.parametrize(
    ("kind", "layout"), [("asr", "transformers"), ("asr", "qwen"), ("omni", "transformers"), ("omni", "fused")]
)
def test_a_small_folder_computes_as_its_origin_without_rounding_again(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    layout: str,
    compute_type: str,
) -> None:
    directory = rewritten(request.getfixturevalue(kind), layout, tmp_path / "origin")
    small = convert(compute_type, directory, tmp_path / "small")
    # int4 folders hold the speech encoder as int8, which is what it computes in.
    expected = computed(directory, compute_type)
    rounded = []
    monkeypatch.setattr(matrices, "quantize_int4", lambda rows: rounded.append(rows))
    found = computed(small, compute_type)
    assert not rounded
    assert torch.equal(found[1], expected[1])
    assert (found[0] - expected[0]).norm() < 0.1 * expected[0].norm()
    # In float32 the integers are read as the values that they stand for.
    exact = computed(small, "float32")[1]
    # On a processor without VNNI inputs have 7 bits.
    close = 0.15 if compute_type == "int4" else 0.05 * 127 / (int8_steps() or 127)
    assert (found[1] - exact).norm() < close * exact.norm()


def test_routers_and_norms_stay_as_they_are(omni: Published, tmp_path: Path) -> None:
    before = load_file(omni.directory / "model.safetensors")
    after = load_file(convert("int4", omni.directory, tmp_path / "small") / "model.safetensors")
    kept = [name for name in before if "norm" in name or name.endswith("mlp.gate.weight")]
    assert any("mlp.gate" in name for name in kept)
    assert all(torch.equal(before[name], after[name]) for name in kept)
    layers = [n for n in before if n.startswith("model.layers.") and n.endswith("proj.weight")]
    assert layers and all(after[name].dtype is torch.uint8 for name in [*layers, "lm_head.weight"])
    assert after["model.embed_tokens.weight"].dtype is torch.int8


def test_an_int4_folder_converted_again_stays_as_it_is(asr: Published, tmp_path: Path) -> None:
    once = convert("int4", asr.directory, tmp_path / "once")
    twice = load_file(convert("int4", once, tmp_path / "twice") / "model.safetensors")
    packed = {n: t for n, t in load_file(once / "model.safetensors").items() if t.dtype is torch.uint8}
    assert packed and all(torch.equal(tensor, twice[name]) for name, tensor in packed.items())


def test_automatic_arithmetic_of_an_int4_folder_is_int4(asr: Published, aligner: Published, tmp_path: Path) -> None:
    small, small_aligner = tmp_path / "asr", tmp_path / "aligner"
    for published, folder in ((asr, small), (aligner, small_aligner)):
        convert("int4", published.directory, folder)
    found = {}
    for directory, beside in ((small, None), (asr.directory, small_aligner)):
        model = load(ModelOptions(directory=directory, aligner=beside, device="cpu", compute_type="auto"))
        found[directory] = model.info.arithmetic["language_model"]
    assert "int4" in found[small] and "int4" not in found[asr.directory]
    times = load_aligner(small_aligner, torch.device("cpu"), "auto")
    assert "int4" in describe_network(times.network, "aligner").arithmetic["language_model"]


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda scale: scale[:, :0], "has scales of the shape"),
        (lambda scale: scale.view(torch.int16), "not floating point"),
        (lambda _: None, "has the shape"),
    ],
)
def test_damaged_scales_are_named(asr: Published, tmp_path: Path, damage: object, cause: str) -> None:
    file = convert("int4", asr.directory, tmp_path / "small") / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("q_proj.weight") and tensors[name].dtype is torch.uint8)
    scale = tensors.pop(f"{name}.scale")
    assert callable(damage)
    if (changed := damage(scale)) is not None:
        tensors[f"{name}.scale"] = changed.contiguous()
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=cause) as error:
        load(ModelOptions(directory=file.parent, device="cpu", compute_type="int4"))
    assert name in str(error.value)


def test_int4_is_for_language_models() -> None:
    result = CliRunner().invoke(main, ["convert", "int4", "fun_asr/assets/model", "unused"])
    assert result.exit_code != 0
    assert "int4 is for models with a language model (qwen3_asr" in result.stderr + str(result.exception)
