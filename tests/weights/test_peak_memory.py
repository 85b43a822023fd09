"""Loading takes the memory of the weights as they end up, and of one stored tensor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fun_asr.models.causal_lm import causal_lm_shapes, read_causal_lm
from fun_asr.models.published import Values

SIZES = {
    "model_type": "qwen3", "vocab_size": 16_384, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "num_experts": 16, "num_experts_per_tok": 2,
    "moe_intermediate_size": 768, "tie_word_embeddings": False,
}  # fmt: skip
SLACK = 32e6  # bytes: what the rounding of a few rows takes, and the allocator

LOAD = """
import sys, threading
from pathlib import Path
from fun_asr.memory import set_up_memory
set_up_memory()
import torch
from fun_asr.kernels.products import can_int4, can_pack, int4_block, int8_steps
from fun_asr.layers.causal_lm import CausalLM
from fun_asr.models.causal_lm import causal_lm_recipes, read_causal_lm
from fun_asr.models.published import Values
from fun_asr.weights.assemble import assemble
from fun_asr.weights.load import only_shapes
from fun_asr.weights.precision import ComputeType
from fun_asr.weights.sources import open_safetensors, read_json

def resident():
    # The process's own; pages of a file that it has mapped are the system's to take back.
    fields = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])

folder, kind = Path(sys.argv[1]), ComputeType(sys.argv[2])
config = read_causal_lm(Values(read_json(folder / "config.json"), "config.json"))
with only_shapes():
    network = CausalLM(config)
int8_steps(), can_int4(), int4_block(64), can_pack(torch.bfloat16)
before, seen, done = resident(), [], threading.Event()

def watch():
    while not done.wait(0.001):
        seen.append(resident())

watcher = threading.Thread(target=watch)
watcher.start()
recipes = causal_lm_recipes(config, "", "model.", "lm_head", fused_experts=True)
assemble(network, open_safetensors(folder), recipes, torch.device("cpu"), kind)
done.set()
watcher.join()
print(max(seen) - before, resident() - before)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of 191 MB in bfloat16."""
    directory = tmp_path_factory.mktemp("random")
    (directory / "config.json").write_text(json.dumps(SIZES))
    shapes = causal_lm_shapes(read_causal_lm(Values(SIZES, "config.json")), "model.", "lm_head", fused_experts=True)
    torch.manual_seed(0)
    save_file({n: torch.randn(shape).bfloat16() for n, shape in shapes.items()}, directory / "model.safetensors")
    return directory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize(("compute_type", "share"), [("int4", 0.36), ("int8", 0.63), ("bfloat16", 1.05)])
def test_no_more_than_the_weights_and_one_tensor_is_held(folder: Path, compute_type: str, share: float) -> None:
    run = subprocess.run([sys.executable, "-c", LOAD, folder, compute_type], capture_output=True, text=True, check=True)
    peak, final = map(int, run.stdout.split())
    largest = 16 * 2 * 768 * 512 * 2  # bytes of a layer's gates
    assert final < share * (folder / "model.safetensors").stat().st_size
    assert peak < final + largest + SLACK
