"""A written token with the words that it stands for."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["Written"]

Written: TypeAlias = tuple[str, tuple[int, int]]
"""The token and the start and end (exclusive) of its words."""
