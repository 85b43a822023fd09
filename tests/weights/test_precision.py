"""Which arithmetic runs where."""

import os
import subprocess
import sys

import pytest
import torch

from fun_asr.weights.precision import bfloat16_is_fast


@pytest.mark.skipif(not bfloat16_is_fast(torch.device("cpu")), reason="this processor multiplies no bfloat16")
def test_a_torch_that_is_held_to_avx2_multiplies_no_bfloat16() -> None:
    """So that this processor shows what one without AVX-512 would do."""
    program = "import torch, fun_asr.weights.precision as p; print(p.bfloat16_is_fast(torch.device('cpu')))"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
