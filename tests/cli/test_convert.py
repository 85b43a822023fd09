"""`fun-asr convert`: model directories made from others."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from fun_asr.cli import main
from fun_asr.models.fun_asr.load import build_model, load_config
from fun_asr.weights.directory import load_stored, save_model
from fun_asr.weights.int8 import dequantize


@pytest.fixture
def other(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """The tiny model with other weights."""
    generator = torch.Generator().manual_seed(1)
    state = dequantize(load_stored(tiny_model_dir))
    moved = {name: tensor + torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}
    save_model(tmp_path / "other", load_config(tiny_model_dir), moved, [], int8=False)
    return tmp_path / "other"


def test_average_is_the_weighted_mean_but_for_the_ctc_head(tiny_model_dir: Path, other: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["convert", "average", str(tmp_path / "mean"), f"{tiny_model_dir}=3", str(other)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.stderr
    first, second, mean = (dequantize(load_stored(path)) for path in (tiny_model_dir, other, tmp_path / "mean"))
    assert mean.keys() == first.keys()
    for name, tensor in mean.items():
        expected = first[name] if name.startswith("ctc.") else 0.75 * first[name] + 0.25 * second[name]
        torch.testing.assert_close(tensor, expected, msg=name)
    assert (tmp_path / "mean" / "tokenizer.json").exists()


@pytest.mark.parametrize("weight", ["much", "-1", "0"])
def test_wrong_weights_are_refused(tiny_model_dir: Path, tmp_path: Path, weight: str) -> None:
    result = CliRunner().invoke(main, ["convert", "average", str(tmp_path / "mean"), f"{tiny_model_dir}={weight}"])
    assert result.exit_code == 2
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(("options", "frames"), [([], 0), (["--silence_frames", "8"], 8)])
def test_an_average_can_be_given_frames_of_silence(
    options: list[str], frames: int, tiny_model_dir: Path, tmp_path: Path
) -> None:
    mean = tmp_path / "mean"
    CliRunner().invoke(main, ["convert", "average", str(mean), str(tiny_model_dir), *options], catch_exceptions=False)
    config = load_config(mean)
    assert config.encoder.silence_frames == frames
    model = build_model(config, dequantize(load_stored(mean)), "mean")
    encoded, lengths = model.encode(torch.randn(1, config.encoder.n_mels, 40), torch.tensor([40]))
    assert encoded.shape[1] == int(lengths[0]) == 20 + frames


def test_models_of_other_sizes_are_not_averaged(tiny_model_dir: Path, tmp_path: Path) -> None:
    state = dequantize(load_stored(tiny_model_dir))
    state["encoder.norm.weight"] = torch.ones(3)
    save_model(tmp_path / "odd", load_config(tiny_model_dir), state, [], int8=False)
    result = CliRunner().invoke(
        main, ["convert", "average", str(tmp_path / "mean"), str(tiny_model_dir), str(tmp_path / "odd")]
    )
    assert result.exit_code == 2
    assert "encoder.norm.weight" in result.output


def test_int8_takes_less_than_half_the_size(tiny_model_dir: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["convert", "int8", str(tiny_model_dir), str(tmp_path / "small")])
    assert result.exit_code == 0

    def size(folder: Path) -> int:
        return sum(shard.stat().st_size for shard in folder.glob("model-*.safetensors"))

    assert size(tmp_path / "small") < size(tiny_model_dir) / 2


def test_new_experts_add_nothing_until_they_are_trained(tiny_model_dir: Path, tmp_path: Path) -> None:
    for name, (experts, chosen, width) in {"none": (0, 0, 0), "more": (6, 3, 8)}.items():
        options = ["--num_experts", experts, "--num_experts_per_token", chosen, "--expert_dim", width]
        arguments = ["convert", "experts", tiny_model_dir, tmp_path / name, *options]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
    none, more = (
        build_model(load_config(path), dequantize(load_stored(path)), str(path))
        for path in (tmp_path / "none", tmp_path / "more")
    )
    assert not none.decoder.routers()
    assert [len(router.balance_E) for router in more.decoder.routers()] == [6, 6]
    tokens, memory = torch.tensor([[1, 2, 3]]), torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(more.decoder(tokens, memory), none.decoder(tokens, memory))
    old = build_model(load_config(tiny_model_dir), dequantize(load_stored(tiny_model_dir)), "tiny")
    assert not torch.allclose(old.decoder(tokens, memory), none.decoder(tokens, memory), atol=1e-3)
