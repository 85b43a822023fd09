"""A decoder over several processes or devices: this file is also the program that each process runs."""

import dataclasses
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from fun_asr.decoding.prefixed import PrefixedOptions, continue_prefixes
from fun_asr.layers.causal_lm import CausalLM, CausalLMConfig
from fun_asr.layers.distribution import ParallelExperts, device_of_layers, spread_experts

CONFIG = CausalLMConfig(
    vocab_size=61, dim=32, num_layers=3, num_heads=4, num_key_heads=2, head_dim=8, ffn_dim=48, num_experts=6,
    num_experts_per_token=2, expert_dim=16, dense_layers=(1,),
)  # fmt: skip
LENGTHS = (5, 9, 1)
SECONDS_BEFORE_A_RANK_IS_HUNG = 60
CPU, META = torch.device("cpu"), torch.device("meta")


def network(config: CausalLMConfig = CONFIG) -> CausalLM:
    torch.manual_seed(0)
    model = CausalLM(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return model


def written(model: CausalLM, beam_size: int) -> list[tuple[list[int], float]]:
    prefixes = torch.randn(sum(LENGTHS), CONFIG.dim, generator=torch.Generator().manual_seed(1))
    options = PrefixedOptions(stop=(60,), beam_size=beam_size)
    found = continue_prefixes(model, prefixes, list(LENGTHS), [25] * len(LENGTHS), options)
    return [(hypothesis.tokens, hypothesis.score) for hypothesis in found]


def experts_in(model: CausalLM) -> int:
    return sum(
        p.numel() for module in model.modules() if isinstance(module, ParallelExperts) for p in module.parameters()
    )


def main(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
        timeout=timedelta(seconds=SECONDS_BEFORE_A_RANK_IS_HUNG),
    )  # fmt: skip
    model = network()
    spread_experts(model)
    torch.save((experts_in(model), [written(model, 1), written(model, 3)]), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_write_the_tokens_of_one(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            _, errors = rank.communicate(timeout=4 * SECONDS_BEFORE_A_RANK_IS_HUNG)
            assert rank.returncode == 0, errors
    finally:
        for rank in ranks:
            rank.kill()
    alone = network()
    expected = [written(alone, 1), written(alone, 3)]
    spread_experts(alone)  # without a group this process holds all experts
    assert [tokens for tokens, _ in written(alone, 1)] == [tokens for tokens, _ in expected[0]]
    assert len({tuple(tokens) for tokens, _ in expected[0]}) == len(LENGTHS)
    for rank in range(2):
        held, found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert 2 * held == experts_in(alone)
        for one, other in zip(expected, found, strict=True):
            assert [tokens for tokens, _ in one] == [tokens for tokens, _ in other]
            assert [score for _, score in one] == pytest.approx([score for _, score in other], abs=1e-4)


def test_layers_compute_and_keep_their_keys_where_they_lie() -> None:
    # Experts cannot be chosen without values.
    model = network(dataclasses.replace(CONFIG, num_experts=0, tied=False))
    for module in (model.layers[1], model.layers[2], model.norm, model.head):
        assert module is not None
        module.to(META)
    with torch.inference_mode():
        logits, cache = model.start(torch.randn(sum(LENGTHS), CONFIG.dim), LENGTHS)
        assert logits.device == META and logits.shape == (len(LENGTHS), CONFIG.vocab_size)
        # Two hypotheses of the first segment, then others in another order than they are kept.
        cache.select([0, 0, 1, 2], [2, 1, 1])
        assert model.step(torch.tensor([1, 2, 3, 4]), cache).shape == (4, CONFIG.vocab_size)
        cache.select([1, 2, 3], [1, 1, 1])
        assert model.step(torch.tensor([1, 2, 3]), cache).device == META
    assert [keys.device for keys in cache._prefix_keys] == [CPU, META, META]


@pytest.mark.parametrize(
    ("sizes", "devices", "expected"),
    [
        ((1, 1, 1, 1), 2, [0, 0, 1, 1]),
        ((1, 1, 1, 9), 2, [0, 0, 0, 1]),
        ((9, 1, 1, 1), 2, [0, 1, 1, 1]),
        ((3, 3, 3), 2, [0, 0, 1]),
        ((2, 2), 3, [0, 1]),
        ((5, 5, 5), 1, [0, 0, 0]),
        ((), 2, []),
    ],
)
def test_layers_fill_devices_evenly_in_order(sizes: tuple[int, ...], devices: int, expected: list[int]) -> None:
    found = device_of_layers(sizes, [torch.device("cuda", index) for index in range(devices)])
    assert [device.index for device in found] == expected


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
