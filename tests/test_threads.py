"""The environment of the network's threads: set before torch reads it, and never against the user."""

import os
import subprocess
import sys

import pytest

from fun_asr.threads import SPINS, set_up_threads


@pytest.mark.parametrize("given", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_the_user_set_stays(given: dict[str, str]) -> None:
    environment = dict(given)
    set_up_threads(environment)
    assert environment == given


@pytest.mark.parametrize(
    "first", ["import fun_asr", "from fun_asr.transcriber import load", "from fun_asr.cli import main"]
)
def test_it_is_set_before_torch_is_loaded(first: str) -> None:
    code = (
        "import builtins, os\n"
        "original, seen = builtins.__import__, []\n"
        "def note(name, *others, **more):\n"
        "    if name == 'torch' and not seen: seen.append(os.environ.get('GOMP_SPINCOUNT'))\n"
        "    return original(name, *others, **more)\n"
        "builtins.__import__ = note\n"
        f"{first}\nimport torch\nprint(seen[0])"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.split() == [str(SPINS)]
