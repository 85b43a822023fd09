"""Experts that lie in one tensor, inputs before outputs, as NVIDIA publishes Nemotron's: one by one, as matrices are.

Shapes: E experts.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from fun_asr.weights.sources import WeightSource

__all__ = ["unfused"]

FUSED = {"gate_and_up_projs": "up_proj", "down_projs": "down_proj"}
"""NVIDIA's tensors of all experts of a layer, `[E, inputs, outputs]`, and what each expert's are called elsewhere."""


def unfused(source: WeightSource) -> WeightSource:
    """The same tensors with NVIDIA's fused experts one by one, each laid out as a matrix is."""
    places: dict[str, tuple[str, int]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in source.shapes.items():
        path, _, part = name.rpartition(".")
        if part in FUSED and len(shape) == 3:
            for expert in range(shape[0]):
                each = f"{path}.{expert}.{FUSED[part]}.weight"
                places[each], shapes[each] = (name, expert), (shape[2], shape[1])
        else:
            shapes[name] = shape
    held: dict[str, Tensor] = {}

    def read(name: str) -> Tensor:
        if name not in places:
            return source.read(name)
        whole, expert = places[name]
        if whole not in held:
            held.clear()  # the experts of a tensor are read one after the other: one tensor at a time is held
            held[whole] = source.read(whole)
        found = held[whole][expert].T
        if expert == source.shapes[whole][0] - 1:
            held.clear()
        return found

    return replace(source, shapes=shapes, read=read)
