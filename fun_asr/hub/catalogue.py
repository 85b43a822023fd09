"""The published models that are known to work: a list inside the package."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fun_asr.configuration import load_yaml
from fun_asr.errors import ConfigError

__all__ = ["BYTES_A_PARAMETER", "PublishedModel", "catalogue", "hub_id"]

CATALOGUE_FILE = Path(__file__).parents[1] / "assets" / "models.yaml"
BYTES_A_PARAMETER = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A model that somebody offers for download."""

    name: str
    hub: str
    """Owner and name at the Hugging Face hub."""
    family: str
    """The folder of `fun_asr.models` that runs it."""
    parameters: int
    languages: tuple[str, ...]
    """Codes."""
    licence: str
    checked: str
    """"weights" where its own were run here, "parity" where only its network was, with random ones beside
    transformers'."""
    wer: float | None = None
    """Published mean word error rate in percent."""
    source: str | None = None
    """Where `wer` is from."""

    @property
    def weight_bytes(self) -> dict[str, int]:
        """What the weights take in memory, by arithmetic."""
        return {kind: self.parameters * size for kind, size in BYTES_A_PARAMETER.items()}


@dataclass(frozen=True, kw_only=True)
class _Catalogue:
    anchors: dict[str, Any]
    """What the entries of the file refer to."""
    models: tuple[PublishedModel, ...]


def catalogue() -> list[PublishedModel]:
    """The models that are known to work, family by family."""
    return list(load_yaml(_Catalogue, CATALOGUE_FILE).models)


def hub_id(name: str) -> str:
    """The hub's name of a model that a user asks for: by a name of the catalogue, or owner/name.

    Raises:
        ConfigError: when it is neither.
    """
    known = {model.name: model.hub for model in catalogue()}
    if name in known:
        return known[name]
    owner, slash, rest = name.partition("/")
    if slash and owner and rest and "/" not in rest:
        return name
    near = difflib.get_close_matches(name, known, 1, 0.5)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"unknown model {name!r}{meant} (fun-asr models lists the names; owner/name takes any other)")
