"""The state-space layer here and in transformers: the same outputs, however a text is cut into chunks and steps."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import NemotronHConfig
from transformers.cache_utils import DynamicCache
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHMamba2Mixer

from fun_asr.layers.mamba2 import Mamba2, Mamba2Config
from tests.models.reference import worst

CHUNK = 8
LENGTHS = (5, 17, 1, 8, 2)


@cache
def pair() -> tuple[Any, Mamba2]:
    """A layer of transformers, and ours with its weights."""
    torch.manual_seed(0)
    config = NemotronHConfig(
        hidden_size=24, mamba_num_heads=6, mamba_head_dim=4, ssm_state_size=5, n_groups=3, chunk_size=CHUNK,
        layers_block_type=["linear_attention"],
    )  # fmt: skip
    theirs = NemotronHMamba2Mixer(config, 0).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in theirs.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    ours = Mamba2(Mamba2Config(dim=24, num_heads=6, head_dim=4, num_groups=3, state_size=5, chunk=CHUNK)).eval()
    names = {
        "project_in.weight": "in_proj.weight", "conv_bias_W": "conv1d.bias", "step_bias_H": "dt_bias",
        "decay_H": "A_log", "skip_H": "D", "norm.weight": "norm.weight", "out.weight": "out_proj.weight",
    }  # fmt: skip
    state = theirs.state_dict()
    ours.load_state_dict(
        {name: state[other] for name, other in names.items()} | {"conv_WK": state["conv1d.weight"][:, 0]}
    )
    return theirs, ours.requires_grad_(False)


def texts(lengths: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(length, 24, generator=generator) for length in lengths]


def test_packed_segments_equal_transformers_one_by_one() -> None:
    theirs, ours = pair()
    parts = texts()
    found, _, _ = ours(torch.cat(parts), LENGTHS)
    for part, y in zip(parts, found.split(LENGTHS), strict=True):
        assert worst(y, theirs(part[None])[0]) < 1e-5


def test_a_segment_is_the_same_alone_and_among_others() -> None:
    _, ours = pair()
    parts = texts()
    together = ours(torch.cat(parts), LENGTHS)
    for b, part in enumerate(parts):
        alone = ours(part, [len(part)])
        assert worst(alone[0], together[0].split(LENGTHS)[b]) < 1e-5
        for state, states in zip(alone[1:], together[1:], strict=True):
            assert worst(state[0], states[b]) < 1e-5


def test_steps_go_on_as_transformers_does() -> None:
    theirs, ours = pair()
    parts, more = texts(), torch.randn(len(LENGTHS), 6, 24, generator=torch.Generator().manual_seed(3))
    _, last, state = ours(torch.cat(parts), LENGTHS)
    found = torch.stack([ours.step(token, last, state) for token in more.unbind(1)], dim=1)
    for part, tokens, y in zip(parts, more, found, strict=True):
        cache_of_theirs = DynamicCache(config=theirs.config)
        theirs(part[None], cache=cache_of_theirs)
        expected = [theirs(token[None, None], cache=cache_of_theirs)[0, 0] for token in tokens]
        assert worst(y, torch.stack(expected)) < 1e-5


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_the_size_of_chunks_changes_nothing(chunk: int) -> None:
    _, ours = pair()
    other = Mamba2(Mamba2Config(dim=24, num_heads=6, head_dim=4, num_groups=3, state_size=5, chunk=chunk)).eval()
    other.load_state_dict(ours.state_dict())
    x = torch.cat(texts())
    with torch.inference_mode():
        for found, expected in zip(other(x, LENGTHS), ours(x, LENGTHS), strict=True):
            assert worst(found, expected) < 1e-4
