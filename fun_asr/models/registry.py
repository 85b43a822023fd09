"""Which family a model folder belongs to, found out without reading weights, and the family's loader.

A family is a row here and a folder beside this file.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fun_asr.errors import CheckpointError
from fun_asr.models.protocol import SegmentRecogniser
from fun_asr.options import ModelOptions
from fun_asr.weights.ctranslate2 import read_spec
from fun_asr.weights.sources import read_json

__all__ = ["BUNDLED_FAMILY", "FAMILIES", "identify", "load_recogniser"]

BUNDLED_FAMILY = "fun_asr"
FAMILIES = {"whisper": "fun_asr.models.whisper.recogniser"}
"""A family's name, which is the `model_type` in its folders, and the module that loads it."""

CONFIG_FILE = "config.json"
_CTRANSLATE2_FILE = "model.bin"
_CTRANSLATE2_SPECS = {"WhisperSpec": "whisper"}
_LARGEST_PICKLE = 16 * 2**20  # bytes: of the names of tensors alone


def identify(directory: Path) -> str:
    """The family of the model in a folder, or in a `.pt` file.

    Arguments:
        directory: what a user gives as `--model`.

    Raises:
        CheckpointError: when it holds no model, or one of a family that is not known.
    """
    if directory.is_file():
        return _of_pickle(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no model directory")
    if (directory / _CTRANSLATE2_FILE).exists() and not any(directory.glob("*.safetensors*")):
        spec = read_spec(directory / _CTRANSLATE2_FILE)
        if spec in _CTRANSLATE2_SPECS:
            return _CTRANSLATE2_SPECS[spec]
    config = directory / CONFIG_FILE
    if not config.exists():
        files = sorted(directory.glob("*.pt"))
        if len(files) == 1:
            return _of_pickle(files[0])
        raise CheckpointError(f"{directory}: no model directory ({CONFIG_FILE} is missing)")
    values = read_json(config)
    model_type = values.get("model_type")
    if model_type is None and {"encoder", "ctc", "decoder"} <= set(values):
        return BUNDLED_FAMILY
    if isinstance(model_type, str) and model_type in FAMILIES:
        return model_type
    said = "no model_type" if model_type is None else f"the model_type {str(model_type)[:40]!r}"
    known = ", ".join(sorted([BUNDLED_FAMILY, *FAMILIES]))
    raise CheckpointError(f"{directory}: {CONFIG_FILE} has {said}, which is no known family; known: {known}")


def _of_pickle(path: Path) -> str:
    """The family of a file that `torch.save` wrote, by the names in it; nothing of it is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as pickle:
                names = pickle.read(_LARGEST_PICKLE)
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: no weights saved by PyTorch ({str(error) or type(error).__name__})") from None
    if b"model_state_dict" in names and b"n_audio_ctx" in names:
        return "whisper"
    raise CheckpointError(f"{path}: of the models in .pt files only OpenAI's Whisper is known")


def load_recogniser(family: str, options: ModelOptions) -> SegmentRecogniser:
    """Load a model.

    Arguments:
        family: one of `FAMILIES`.
        options: with its directory.

    Raises:
        CheckpointError: when a file is missing or damaged.
        ConfigError: for a device or compute type that is not available.
    """
    module: Any = importlib.import_module(FAMILIES[family])
    load: Callable[[ModelOptions], SegmentRecogniser] = module.load
    return load(options)
