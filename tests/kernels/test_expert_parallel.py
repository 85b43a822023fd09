"""Two processes, one gloo group: this file is also the program that each of them runs."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from fun_asr.kernels import (
    Routing,
    combine,
    group_by_expert,
    grouped_matmul,
    local_experts,
    parallel_experts,
    route,
)

E, K, D, F = 6, 3, 16, 24
SECONDS_BEFORE_A_RANK_IS_HUNG = 60


@dataclass(frozen=True)
class Case:
    tokens: tuple[int, int]
    """Tokens of each rank."""

    favour: tuple[float, ...] = (0.0,) * E
    """Added to the router logits of every token."""

    dtype: torch.dtype = torch.float32
    tolerance: float = 1e-6

    constant_x_on: int | None = None
    """The rank whose tokens require no gradient."""

    skip_if_no_rows: bool = False
    """Whether a rank without rows returns a constant instead of running its experts."""


CASES = {
    "even": Case((24, 24)),
    "uneven": Case((5, 31)),
    "one_token": Case((0, 1)),
    "first_rank_empty": Case((0, 24)),
    "second_rank_empty": Case((24, 0)),
    "no_tokens": Case((0, 0)),
    "all_to_the_first_rank": Case((12, 20), favour=(99, 99, 99, 0, 0, 0)),
    "all_to_the_second_rank": Case((12, 20), favour=(0, 0, 0, 99, 99, 99)),
    "experts_without_rows": Case((12, 20), favour=(0, -99, 0, -99, 0, 0)),
    "constant_tokens": Case((12, 20), constant_x_on=0),
    "experts_not_run": Case((12, 20), favour=(99, 99, 99, 0, 0, 0), skip_if_no_rows=True),
    "bfloat16": Case((5, 31), dtype=torch.bfloat16, tolerance=2e-2),
    "float16": Case((5, 31), dtype=torch.float16, tolerance=2e-3),
    "float64": Case((5, 31), dtype=torch.float64),
}


@dataclass(frozen=True)
class Operands:
    x_ND: Tensor
    gradient_ND: Tensor
    router_DE: Tensor
    gate_up_EDF: Tensor
    down_EFD: Tensor

    def of_rank(self, case: Case, rank: int) -> "Operands":
        tokens, held = list(case.tokens), local_experts(E)
        return Operands(
            self.x_ND.split(tokens)[rank],
            self.gradient_ND.split(tokens)[rank],
            self.router_DE,
            self.gate_up_EDF[held],
            self.down_EFD[held],
        )


def operands_of(case: Case) -> Operands:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return Operands(
        normal(sum(case.tokens), D).to(case.dtype),
        0.1 * normal(sum(case.tokens), D).to(case.dtype),
        0.3 * normal(D, E),
        (D**-0.5 * normal(E, D, 2 * F)).to(case.dtype),
        (F**-0.5 * normal(E, F, D)).to(case.dtype),
    )


Layer = Callable[[Tensor, Routing, Callable[[Tensor, Tensor], Tensor]], Tensor]


def one_process_layer(x_ND: Tensor, routing: Routing, experts: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    order, offsets_E = group_by_expert(routing.experts_NK, E)
    return combine(experts(x_ND[order // K], offsets_E), order, routing.weights_NK)


def run_layer(layer: Layer, case: Case, operands: Operands, *, constant_x: bool = False) -> dict[str, Tensor]:
    """Everything that one pass forward and backward gives."""
    x_ND = operands.x_ND.clone().requires_grad_(not constant_x)
    router_DE, gate_up_EDF, down_EFD = (
        w.clone().requires_grad_() for w in (operands.router_DE, operands.gate_up_EDF, operands.down_EFD)
    )

    def experts(rows_RD: Tensor, offsets_E: Tensor) -> Tensor:
        if case.skip_if_no_rows and not len(rows_RD):
            return torch.zeros_like(rows_RD)
        gate_RF, up_RF = grouped_matmul(rows_RD, gate_up_EDF, offsets_E).chunk(2, dim=-1)
        return grouped_matmul(functional.silu(gate_RF) * up_RF, down_EFD, offsets_E)

    routing = route(x_ND.float() @ router_DE + torch.tensor(case.favour), K)
    y_ND = layer(x_ND, routing, experts)
    y_ND.backward(operands.gradient_ND)
    with torch.inference_mode():
        inferred_ND = layer(x_ND, routing, experts)
    return {
        "experts": routing.experts_NK,
        "weights": routing.weights_NK.detach(),
        "y": y_ND.detach(),
        "inferred": inferred_ND.clone(),
        **{
            name: torch.zeros_like(t) if t.grad is None else t.grad
            for name, t in (("x", x_ND), ("router", router_DE), ("gate_up", gate_up_EDF), ("down", down_EFD))
        },
    }


def run_rank(rank: int, directory: Path) -> None:
    dist.init_process_group(
        "gloo",
        init_method=(directory / "rendezvous").as_uri(),
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=SECONDS_BEFORE_A_RANK_IS_HUNG),
    )
    results: dict[str, Any] = {}
    for name, case in CASES.items():
        operands = operands_of(case).of_rank(case, rank)
        constant_x = case.constant_x_on == rank
        results[name] = [run_layer(parallel_experts, case, operands, constant_x=constant_x) for _ in range(2)]

    def alone(x_ND: Tensor, routing: Routing, experts: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return parallel_experts(x_ND, routing, experts, group=groups[rank])

    groups = [dist.new_group([member]) for member in range(2)]
    results["alone"] = run_layer(alone, CASES["even"], operands_of(CASES["even"]))
    held = local_experts(E)
    results["held"] = [held.start, held.stop]
    results["uneven_split"] = refusal(lambda: local_experts(E + 1))
    results["not_a_member"] = refusal(lambda: local_experts(E, group=groups[1 - rank]))
    torch.save(results, directory / f"{rank}.pt")
    dist.destroy_process_group()


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as error:
        call()
    return str(error.value)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes computed."""
    directory = tmp_path_factory.mktemp("ranks")
    logs = [directory / f"{rank}.log" for rank in range(2)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as output:
            command = [sys.executable, __file__, str(rank), str(directory)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            processes.append(subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT))
    try:
        codes = [process.wait(timeout=2 * SECONDS_BEFORE_A_RANK_IS_HUNG) for process in processes]
    except subprocess.TimeoutExpired:
        codes = [1]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert not any(codes), "\n".join(log.read_text() for log in logs)
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_equal_one_process(name: str, ranks: list[dict[str, Any]]) -> None:
    case = CASES[name]
    expected = run_layer(one_process_layer, case, operands_of(case))
    if case.constant_x_on is not None:
        expected["x"].split(list(case.tokens))[case.constant_x_on].zero_()
    results = [rank[name][0] for rank in ranks]
    for key, value in expected.items():
        parts = [result[key] for result in results]
        actual = parts[0] + parts[1] if key == "router" else torch.cat(parts)
        tolerance = 0.0 if key == "experts" else case.tolerance
        assert actual.dtype == value.dtype
        assert_close(actual, value, rtol=tolerance, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", CASES)
def test_two_runs_are_equal_to_the_bit(name: str, ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        first, second = rank[name]
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_each_rank_holds_its_share_of_the_experts(ranks: list[dict[str, Any]]) -> None:
    assert [rank["held"] for rank in ranks] == [[0, 3], [3, 6]]


def test_experts_that_cannot_be_split_evenly_are_refused(ranks: list[dict[str, Any]]) -> None:
    assert all(rank["uneven_split"] == "7 experts cannot be split evenly over 2 ranks" for rank in ranks)


def test_a_group_of_others_is_refused(ranks: list[dict[str, Any]]) -> None:
    assert all("not in the group" in rank["not_a_member"] for rank in ranks)


def test_a_group_of_one_is_the_local_layer(ranks: list[dict[str, Any]]) -> None:
    expected = run_layer(one_process_layer, CASES["even"], operands_of(CASES["even"]))
    for rank in ranks:
        assert_close(rank["alone"], expected, rtol=1e-6, atol=1e-6)


def test_without_a_process_group_it_is_the_local_layer() -> None:
    assert local_experts(E) == slice(0, E)
    for case in (CASES["even"], CASES["no_tokens"], CASES["bfloat16"]):
        actual = run_layer(parallel_experts, case, operands_of(case))
        expected = run_layer(one_process_layer, case, operands_of(case))
        assert torch.equal(actual["y"], expected["y"])
        assert_close(actual, expected, rtol=case.tolerance, atol=case.tolerance)


def test_shapes_that_disagree_are_refused() -> None:
    routing = route(torch.zeros(5, E), K)
    with pytest.raises(ValueError, match=r"expected x \[5, D\]"):
        parallel_experts(torch.zeros(4, D), routing, lambda rows_RD, offsets_E: rows_RD)
    with pytest.raises(ValueError, match=r"rows \[15, F\]"):
        parallel_experts(torch.zeros(5, D), routing, lambda rows_RD, offsets_E: rows_RD[1:])


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
