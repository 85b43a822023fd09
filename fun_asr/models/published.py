"""Published configurations: YAML read without its dangers, values read with their types and bounds checked."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

import yaml

from fun_asr.errors import CheckpointError

__all__ = ["Values", "parse_yaml"]

MAX_ALIASES = 16

_REFERENCE = re.compile(r"\$\{(?:model\.)?([\w.]+)\}")


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(data: bytes, where: str) -> Any:
    """What a YAML file holds.

    Raises:
        CheckpointError: naming `where`, when it is no YAML.
    """
    try:
        text = data.decode("utf-8")
        # An alias may stand for a list of aliases, and that ten times over: more than any memory holds.
        if sum(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=_Loader)) > MAX_ALIASES:
            raise CheckpointError(f"{where}: has more than {MAX_ALIASES} aliases, which no published model has")
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{where}: no valid YAML ({str(error).splitlines()[0][:120]})") from None


class Values:
    """A mapping that somebody else wrote.

    Arguments:
        values: what the file holds.
        where: the file, for messages.
        path: the keys that lead to `values`.
        whole: what references such as `${model.encoder.d_model}` lead into; None for `values`.

    Raises:
        CheckpointError: when `values` is no mapping.
    """

    def __init__(self, values: Any, where: str, path: str = "", whole: Any = None) -> None:
        self.where, self._path = where, path
        self._whole = values if whole is None else whole
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{where}: {path or 'the configuration'} is no mapping")
        self._values: Mapping[Any, Any] = values

    def __contains__(self, key: str) -> bool:
        return self._get(key) is not None

    def __len__(self) -> int:
        return len(self._values)

    def inner(self, key: str) -> Values:
        """The mapping at `key`; an empty one where there is none."""
        value = self._get(key)
        return Values({} if value is None else value, self.where, f"{self._path}{key}.", self._whole)

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number in [low, high]."""
        value = self._value(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def integers(self, key: str, default: tuple[int, ...] | None, low: int, high: int) -> tuple[int, ...]:
        """A list of whole numbers in [low, high]."""
        value = self._value(key, default)
        if not isinstance(value, list | tuple) or not all(
            isinstance(item, int) and not isinstance(item, bool) and low <= item <= high for item in value
        ):
            raise self.wrong(key, f"a list of whole numbers from {low} to {high}")
        return tuple(value)

    def is_list(self, key: str) -> bool:
        """Whether there is a list at `key`, not one value."""
        return isinstance(self._get(key), list | tuple)

    def items(self, key: str) -> list[Any]:
        """A list; an empty one where there is none."""
        value = self._value(key, [])
        if not isinstance(value, list | tuple):
            raise self.wrong(key, "a list")
        return list(value)

    def fixed(self, key: str, expected: object) -> None:
        """Refuse any other value than the one that is built here; none counts as that."""
        value = self._get(key)
        if value is not None and value != expected:
            shown = reprlib.repr(value)
            raise CheckpointError(f"{self.where}: {self._path}{key} {shown} is not supported, only {expected!r}")

    def wrong(self, key: str, expected: str) -> CheckpointError:
        """The error for a value that is not as it has to be."""
        shown = reprlib.repr(self._values.get(key))
        return CheckpointError(f"{self.where}: {self._path}{key} is {shown}; it must be {expected}")

    def _value(self, key: str, default: object) -> Any:
        value = self._get(key)
        if value is None and default is None:
            raise CheckpointError(f"{self.where}: {self._path}{key} is missing")
        return default if value is None else value

    def _get(self, key: str) -> Any:
        """The value at `key`, or what it refers to."""
        value = self._values.get(key)
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        found = self._whole
        for part in match[1].split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found
