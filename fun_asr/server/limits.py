"""How much a server takes on."""

from __future__ import annotations

from dataclasses import dataclass

from fun_asr.errors import ConfigError

__all__ = ["ServerLimits"]


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """What is refused, and when a client has waited or kept others waiting long enough.

    Raises:
        ConfigError: when a value is out of range.
    """

    upload: int = 1 << 30
    """Most bytes of a request's body."""
    requests: int = 64
    """Most recordings that are received or wait or are recognised at once; more are told to come back."""
    recordings: int = 8
    """Of them, those that are decoded at once, and share the model's batches."""
    streams: int = 32
    """Most live streams at once."""
    idle: float = 60.0
    """Seconds after which a client that sends nothing of what it has begun, or reads nothing, is left."""
    request: float = 3600.0
    """Seconds after which the work for one request is given up."""
    drain: float = 30.0
    """Seconds that requests under way have once the server is asked to stop."""
    backlog: float = 60.0
    """Seconds of a live stream's sound that wait; until there is room again, no more is read from its client."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"{name} must be more than 0, got {value}")
