"""Folders as FunASR publishes them, with weights that anybody can make again from the tensors' names.

`upstream.json` holds what FunASR 1.4.16 (funasr on PyPI; MIT licence) computed with the same weights, features without
dither, and the recordings of `tests.models.reference.clips`: its classes were run once, outside this repository.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

FIXTURE = json.loads((Path(__file__).parent / "upstream.json").read_text("utf-8"))
FRONT_END = {
    "fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10, "lfr_m": 7, "lfr_n": 6,
    "cmvn_file": None,
}  # fmt: skip


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values that depend on the name alone: norms near one, the rest of a size that neither grows nor fades."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1:
        values = 0.1 * values + ("norm" in name and name.endswith("weight"))
    else:
        values = values / np.prod(shape[1:]) ** 0.5
    return torch.from_numpy(values.astype(np.float32))


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: tensor(name, tuple(shape)) for name, shape in shapes.items()}


def write_folder(directory: Path, config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    (directory / "config.yaml").write_text(yaml.safe_dump(dict(config), allow_unicode=True), encoding="utf-8")
    torch.save(dict(state), directory / "model.pt")


def write_statistics(directory: Path, width: int) -> None:
    """An `am.mvn` that is no identity, in Kaldi's text form."""
    shift, scale = ((-8 - np.arange(width) % 5 / 10), (0.1 + np.arange(width) % 3 / 50))
    lines = ["<Nnet>", f"<Splice> {width} {width}", "[ 0 ]"]
    for layer, values in (("<AddShift>", shift), ("<Rescale>", scale)):
        lines += [f"{layer} {width} {width}", f"<LearnRateCoef> 0 [ {' '.join(f'{v:.3f}' for v in values)} ]"]
    (directory / "am.mvn").write_text("\n".join([*lines, "</Nnet>", ""]), encoding="utf-8")
