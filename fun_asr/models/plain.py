"""What recognisers share that transcribe and neither translate nor say in which language."""

from __future__ import annotations

from fun_asr.options import Task
from fun_asr.transcript import ModelInfo

__all__ = ["PlainRecogniser"]


class PlainRecogniser:
    """A part of a `SegmentRecogniser`; whoever inherits it sets `_info`."""

    _info: ModelInfo

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it computes with on this machine."""
        return self._info

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can write of them."""
        return ("transcribe",)

    @property
    def detects_languages(self) -> bool:
        """It writes whatever it hears, and does not say in which language."""
        return False
