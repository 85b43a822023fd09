"""Where the parts of a large model go, and which devices can be named."""

import pytest
import torch

from fun_asr.errors import ConfigError
from fun_asr.layers.causal_lm import CausalLMConfig
from fun_asr.models.placement import placement
from fun_asr.models.qwen3.config import AudioConfig, Qwen3Config
from fun_asr.models.qwen3.network import Qwen3
from fun_asr.weights.load import only_shapes
from fun_asr.weights.precision import resolve_device, resolve_devices


def test_layers_are_shared_out_and_the_rest_lies_on_the_first_device(config: Qwen3Config) -> None:
    with only_shapes():
        network = Qwen3(config)
    devices = [torch.device("cuda", index) for index in range(2)]
    place = placement(network, config.text.num_layers, devices)
    found = {name: place(name).index for name, _ in network.named_parameters()}
    assert {found[name] for name in found if not name.startswith("language_model.layers.")} == {0}
    of_layer = [{found[n] for n in found if n.startswith(f"language_model.layers.{layer}.")} for layer in range(12)]
    assert all(len(places) == 1 for places in of_layer)
    order = [next(iter(places)) for places in of_layer]
    assert order == sorted(order) and set(order) == {0, 1}
    load_of = [sum(p.numel() for n, p in network.named_parameters() if found[n] == device) for device in (0, 1)]
    assert max(load_of) < 0.6 * sum(load_of)


@pytest.fixture
def config() -> Qwen3Config:
    text = CausalLMConfig(vocab_size=400, dim=64, num_layers=12, num_heads=4, num_key_heads=2, head_dim=16, ffn_dim=128)
    audio = AudioConfig(dim=32, num_layers=1, num_heads=2, ffn_dim=32, conv_channels=8, out_dim=64)
    return Qwen3Config(kind="asr", audio=audio, text=text)


@pytest.mark.parametrize("name", ["cpu,cpu", "cpu,nowhere", "meta", "cpu,"])
def test_devices_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"must be different ones of one kind|unknown or not available"):
        resolve_devices(name)


def test_one_device_is_named_as_ever_and_several_only_where_they_are_of_use() -> None:
    assert resolve_devices("cpu") == [torch.device("cpu")]
    with pytest.raises(ConfigError, match="only models with a large language model"):
        resolve_device("cuda:0,cuda:1")
