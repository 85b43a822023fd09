"""Folders as publishers ship them, written: transformers' safetensors under their names, and the files beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.files import replacing, write_atomically
from fun_asr.weights.sources import INDEX_FILE, read_json

__all__ = ["PublishedNames", "companions", "write_published"]

CONFIG_FILE = "config.json"
SHARD_BYTES = 4 * 10**9
_COPIED = {".json", ".txt", ".model", ".jinja", ".tiktoken"}
_LARGEST_COPIED = 64 * 2**20  # bytes: no file about a model has more


@dataclass(frozen=True)
class PublishedNames:
    """What a network's tensors are called in the published layout."""

    names: Mapping[str, tuple[str | None, ...]]
    """Of each of our tensors theirs, whose rows follow each other in it; None for rows that they do not have."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of those of theirs that are shaped differently."""

    def parts(self, ours: str, tensor: Tensor) -> list[tuple[str | None, Tensor]]:
        """Their names and rows of one of our tensors."""
        theirs = self.names[ours]
        return list(zip(theirs, tensor.chunk(len(theirs)) if len(theirs) > 1 else [tensor], strict=True))

    def published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors under their names and in their shapes, float32."""
        found = {}
        for ours, tensor in state.items():
            if ours not in self.names:
                continue
            for name, rows in self.parts(ours, tensor):
                if name is not None:
                    rows = rows.reshape(self.shapes.get(name, rows.shape))
                    found[name] = (rows.float() if rows.is_floating_point() else rows).cpu().contiguous()
        return found


def companions(folder: Path) -> list[Path]:
    """The files beside the weights that a copy of the model needs: sizes, vocabulary, front end, licence."""
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in _COPIED or path.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE"))
    ]
    return [p for p in found if p.is_file() and not p.name.endswith(INDEX_FILE) and p.stat().st_size <= _LARGEST_COPIED]


def write_published(
    directory: Path,
    tensors: Mapping[str, Tensor],
    files: Iterable[Path],
    written: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write a folder that transformers and `fun-asr --model` read.

    Arguments:
        directory: created if missing; weights that it holds already are replaced.
        tensors: by their published names.
        files: copied beside them.
        written: JSON files by their names, where they are not copied.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for old in [directory / CONFIG_FILE, *directory.glob("model*.safetensors"), directory / INDEX_FILE]:
        old.unlink(missing_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    places = {}
    for number, shard in enumerate(shards, start=1):
        whole = len(shards) == 1
        path = directory / ("model.safetensors" if whole else f"model-{number:05d}-of-{len(shards):05d}.safetensors")
        places.update(dict.fromkeys(shard, path.name))
        with replacing(path) as unfinished:
            try:
                # Without this note transformers refuses the file.
                save_file(shard, unfinished, metadata={"format": "pt"})
            except SafetensorError as error:
                raise CheckpointError(f"{path}: cannot be written ({error})") from None
            unfinished.chmod(0o644)  # the library writes files that only their owner may read
    if len(shards) > 1:
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": places}
        _write_json(directory / INDEX_FILE, index)
    config = dict((written or {}).get(CONFIG_FILE, {}))
    for path in files:
        if path.name == CONFIG_FILE:
            config = read_json(path)
        elif path.resolve() != (directory / path.name).resolve():
            shutil.copyfile(path, directory / path.name)
    for name, values in (written or {}).items():
        if name != CONFIG_FILE:
            _write_json(directory / name, values)
    # transformers loads in the type that the configuration names: of a half it would round the weights again.
    kinds = {key for key in ("dtype", "torch_dtype") if key in config}
    if any(tensor.dtype is torch.float32 for tensor in tensors.values()):
        config |= dict.fromkeys(kinds, "float32")
    # Last, so that a folder with a configuration is whole.
    _write_json(directory / CONFIG_FILE, config)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
