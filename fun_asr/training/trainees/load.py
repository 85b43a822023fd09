"""Which family a model to start from belongs to."""

from __future__ import annotations

from pathlib import Path

from fun_asr.errors import CheckpointError
from fun_asr.models.registry import BUNDLED_FAMILY, identify
from fun_asr.training.config import TrainConfig
from fun_asr.training.trainees.protocol import Trainee

__all__ = ["load_trainee"]


def load_trainee(path: Path, config: TrainConfig) -> Trainee:
    """Load a model to be trained, in float32 on the CPU.

    Arguments:
        path: a model directory of this package, or what a publisher of Whisper, Parakeet CTC or Granite CTC ships.
        config: of the run.

    Raises:
        CheckpointError: when it holds no model, one that cannot be trained, or a damaged one.
        ConfigError: when the config asks for what the model has not.
    """
    family = identify(path).name
    # Each family imports what it needs of its own.
    if family == BUNDLED_FAMILY:
        from fun_asr.training.trainees.bundled import BundledTrainee

        return BundledTrainee(path, config)
    if family == "whisper":
        from fun_asr.training.trainees.whisper import WhisperTrainee

        return WhisperTrainee(path, config)
    if family == "conformer":
        from fun_asr.training.trainees.frames import ConformerTrainee

        return ConformerTrainee(path, config)
    if family == "granite":
        from fun_asr.training.trainees.frames import GraniteTrainee

        return GraniteTrainee(path, config)
    raise CheckpointError(f"{path}: models of the family {family} cannot be trained")
