"""What a list of recordings says about one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RecordingInfo"]


@dataclass(frozen=True)
class RecordingInfo:
    """What a list of recordings said about one, beside its path."""

    name: str | None = None
    """The recording's identifier, as in wav.scp; None is the file's name without suffix. Different recordings
    of a run have different ones."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's other keys."""
