"""Loading takes the memory of the weights as they end up, and of one stored tensor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

SIZES = {
    "model_type": "qwen3", "vocab_size": 16_384, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "num_experts": 16, "num_experts_per_tok": 2,
    "moe_intermediate_size": 768, "tie_word_embeddings": False,
}  # fmt: skip

LOAD = """
import sys
from pathlib import Path
from fun_asr.memory import set_up_memory
set_up_memory()
import torch
from fun_asr.layers.causal_lm import CausalLM
from fun_asr.models.causal_lm import causal_lm_recipes, read_causal_lm
from fun_asr.models.published import Values
from fun_asr.weights.assemble import assemble
from fun_asr.weights.load import only_shapes
from fun_asr.weights.precision import ComputeType
from fun_asr.weights.sources import open_safetensors, read_json

def resident(key):
    # What a file's pages take is the system's, which takes them back when it needs them.
    fields = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
    return 1024 * int(fields[key].split()[0])

class Peak:
    # What the process has of its own is not kept as a peak: looked at while tensors are read and laid out.
    def __init__(self):
        self.most = 0
    def __call__(self, *_):
        self.most = max(self.most, resident("RssAnon"))

folder = Path(sys.argv[1])
kind = ComputeType(sys.argv[2])
config = read_causal_lm(Values(read_json(folder / "config.json"), "config.json"))
import threading, time
with only_shapes():
    network = CausalLM(config)
with only_shapes():
    warm = torch.nn.Linear(64, 64)
from fun_asr.kernels.products import can_int4, can_pack, int4_block, int8_steps
int8_steps(), can_int4(), int4_block(64), can_pack(torch.bfloat16)
before, peak, done = resident("RssAnon"), Peak(), threading.Event()

def watch():
    while not done.wait(0.001):
        peak()

watcher = threading.Thread(target=watch)
watcher.start()
assemble(network, open_safetensors(folder), causal_lm_recipes(config, "", "model.", "lm_head", fused_experts=True),
         torch.device("cpu"), kind)
done.set()
watcher.join()
peak()
print(peak.most - before, resident("RssAnon") - before)
"""


@pytest.mark.parametrize("compute_type", ["int4", "int8", "bfloat16"])
def test_no_more_than_the_weights_and_one_tensor_is_held(folder: Path, compute_type: str) -> None:
    run = subprocess.run([sys.executable, "-c", LOAD, folder, compute_type], capture_output=True, text=True, check=True)
    peak, final = map(int, run.stdout.split())
    print(peak, final)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of 200 MB in bfloat16, of which a layer's experts take 25."""
    from fun_asr.models.causal_lm import causal_lm_shapes, read_causal_lm
    from fun_asr.models.published import Values

    directory = tmp_path_factory.mktemp("random")
    (directory / "config.json").write_text(json.dumps(SIZES))
    shapes = causal_lm_shapes(read_causal_lm(Values(SIZES, "config.json")), "model.", "lm_head", fused_experts=True)
    torch.manual_seed(0)
    save_file({n: torch.randn(shape).bfloat16() for n, shape in shapes.items()}, directory / "model.safetensors")
    size = (directory / "model.safetensors").stat().st_size
    print(size, max(torch.Size(s).numel() * 2 for s in shapes.values()))
    return directory
