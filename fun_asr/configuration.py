"""Configurations: frozen dataclasses that are read from YAML and JSON, with unknown keys refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from fun_asr.errors import ConfigError

__all__ = ["from_mapping", "load_yaml"]

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Build a config dataclass from nested mappings.

    Arguments:
        cls: the dataclass.
        values: keys are field names; nested dataclasses take nested mappings.
        where: name used in error messages, e.g. the file's.

    Raises:
        ConfigError: for an unknown key, a value of the wrong type or a missing required key.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {type(values).__name__}")
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(hints)}")
    built: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints[key]
        item = get_args(hint)[0] if get_origin(hint) is tuple else None
        if dataclasses.is_dataclass(item) and isinstance(item, type) and isinstance(value, list):
            built[key] = tuple(from_mapping(item, v, f"{where}: {key}[{i}]") for i, v in enumerate(value))
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            built[key] = from_mapping(hint, value, f"{where}: {key}")
        else:
            built[key] = _checked(value, hint, f"{where}: {key}")
    try:
        return cls(**built)
    except (TypeError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from None


def _checked(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 3e-4 as a string
        try:
            return float(value)
        except ValueError:
            raise ConfigError(f"{where}: expected a number, got {value!r}") from None
    if hint in (int, float, str, bool) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _changed(values: Any, change: str) -> None:
    """Put what `KEY=VALUE` says into nested mappings and lists."""
    name, separator, text = change.partition("=")
    keys = name.strip().removeprefix("training.").split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {change}: expected KEY=VALUE, such as steps=100 or optimizer.learning_rate=1e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change}: no valid YAML ({str(error).splitlines()[0]})") from None
    for place, key in enumerate(keys):
        last = place == len(keys) - 1
        if isinstance(values, list):
            if not key.isdecimal() or int(key) >= len(values):
                raise ConfigError(f"--set {change}: {'.'.join(keys[:place])} has no entry {key}")
            if last:
                values[int(key)] = value
            else:
                values = values[int(key)]
        elif isinstance(values, dict):
            if last:
                values[key] = value
            else:
                values = values.setdefault(key, {})
        else:
            raise ConfigError(f"--set {change}: {'.'.join(keys[:place])} has no parts")


def load_yaml(cls: type[T], path: Path, changes: Sequence[str] = ()) -> T:
    """Read a config dataclass from a YAML file.

    Arguments:
        cls: the dataclass.
        path: the file.
        changes: KEY=VALUE each, with dots between the keys of nested values, and values in YAML.

    Raises:
        ConfigError: when the file cannot be read, is no YAML, or does not describe `cls`.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: no valid YAML (nested too deep)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no valid YAML ({str(error).splitlines()[0]})") from None
    values = values or {}
    for change in changes:
        _changed(values, change)
    return from_mapping(cls, values, str(path))
