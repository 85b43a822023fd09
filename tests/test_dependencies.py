"""torch and torchaudio: a pair that loads together, as pyproject.toml asks for, and that no transcription waits for."""

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fun_asr.training.acoustics import MATCHING

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
CLIP = Path(__file__).parent / "data" / "libri-00004.opus"


def required(name: str) -> Requirement:
    lines = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    (found,) = (requirement for requirement in map(Requirement, lines) if requirement.name == name)
    return found


@pytest.mark.parametrize("name", ["torch", "torchaudio"])
def test_the_installed_version_is_one_that_is_asked_for(name: str) -> None:
    assert required(name).specifier.contains(importlib.metadata.version(name))


def test_the_advice_for_a_pair_that_does_not_load_is_the_pair_that_is_asked_for() -> None:
    assert [Requirement(line) for line in MATCHING] == [required("torch"), required("torchaudio")]


def test_versions_of_torch_that_torchaudio_does_not_load_beside_are_refused() -> None:
    torch = required("torch").specifier
    assert not torch.contains("2.10.0"), "CUDA 12.8; torchaudio 2.11 is built for 13.0"
    assert not torch.contains("2.15.0"), "CUDA 13.2"
    torchaudio = required("torchaudio").specifier
    assert torchaudio.contains("2.11.0")
    assert not torchaudio.contains("2.12.0")


def test_torchaudio_loads_beside_the_installed_torch() -> None:
    code = "import torchaudio, torch; print(torch.ops._torchaudio.is_align_available())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "True\n"), result.stderr


def test_recordings_are_transcribed_beside_a_torchaudio_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text("raise OSError('built for another torch')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "fun_asr", "transcribe", "-l", "en", str(CLIP)]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert result.returncode == 0, result.stderr
    assert "virtues" in result.stdout
