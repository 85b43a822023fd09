"""Model directories: `config.json`, safetensors shards, tokenizers, detector, language model. No pickle anywhere.

Weight matrices are stored int8 with one float32 scale per output channel (`NAME.scale`) or as float32; vectors,
depth-wise kernels and the router stay float32.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.files import replacing, write_atomically
from fun_asr.model.config import ModelConfig, from_mapping
from fun_asr.model.encoder import sinusoids
from fun_asr.model.fun_asr import FunASR

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
CTC_TOKENIZER_FILE = "ctc.model"
CTC_LANGUAGE_MODEL_FILE = "ctc-lm.safetensors"
"""A model can do without it."""
VAD_FILE = "vad.safetensors"
SHARD_BYTES = 50 * 10**6
SCALE_SUFFIX = ".scale"

_KEPT_FLOAT = ("router.", "depthwise.", "positions")
_ROUTED = (".router.", ".experts.")


def quantize(name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 per output channel: the integers, and the float32 scales shaped to broadcast over them.

    Experts are stored `[E, out, in]`, all other weights `[out, ...]`.
    """
    inputs = tuple(range(2 if ".experts." in name else 1, weight.dim()))
    bound = weight.abs().amax(dim=inputs, keepdim=True)
    scale = (bound / 127).clamp(min=1e-12)
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def stored_as_int8(name: str, weight: Tensor) -> bool:
    """Whether an int8 model directory holds this parameter as integers and scales; it holds the others as float32."""
    return weight.dim() >= 2 and not any(part in name for part in _KEPT_FLOAT)


def save_model(
    directory: Path, config: ModelConfig, state: dict[str, Tensor], companions: Iterable[Path], *, int8: bool
) -> None:
    """Write a model directory that `load_state` and `fun-asr --model` read.

    Arguments:
        directory: created if missing; files of the same names are replaced.
        config: the model's sizes.
        state: parameters and buffers by name.
        companions: what to copy in, as `companion_files` names it.
        int8: store matrices as int8 per output channel instead of float32.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for path in companions:
        if path.resolve() != (directory / path.name).resolve():
            shutil.copyfile(path, directory / path.name)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        stored = {name: tensor.detach().float().contiguous()}
        if int8 and stored_as_int8(name, tensor):
            integers, scale = quantize(name, stored[name])
            stored = {name: integers.contiguous(), name + SCALE_SUFFIX: scale.contiguous()}
        added = sum(value.numel() * value.element_size() for value in stored.values())
        if size and size + added > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1].update(stored)
        size += added
    for old in directory.glob("model-*.safetensors"):
        old.unlink()
    for number, shard in enumerate(shards, start=1):
        path = directory / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(path, shard)
    text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    write_atomically(directory / CONFIG_FILE, text.encode())


def companion_files(directory: Path) -> list[Path]:
    """What a model directory holds beside the network: tokenizers, a speech detector and a language model if any."""
    optional = [directory / VAD_FILE, directory / CTC_LANGUAGE_MODEL_FILE]
    tokenizers = [directory / TOKENIZER_FILE, directory / CTC_TOKENIZER_FILE]
    return [*tokenizers, *(path for path in optional if path.exists())]


def load_config(directory: Path) -> ModelConfig:
    """Read a model directory's configuration.

    Raises:
        CheckpointError: when there is none, or it is damaged.
    """
    path = directory / CONFIG_FILE
    try:
        return from_mapping(ModelConfig, json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError:
        raise CheckpointError(f"{directory}: no model directory ({CONFIG_FILE} is missing)") from None
    except (ValueError, ConfigError) as error:
        raise CheckpointError(f"{path}: damaged configuration ({error})") from None


def load_stored(directory: Path) -> dict[str, Tensor]:
    """The tensors of a model directory as stored: int8 ones with their scales beside them.

    Raises:
        CheckpointError: when a shard is missing or damaged.
    """
    shards = sorted(directory.glob("model-*-of-*.safetensors"))
    if not shards or len(shards) != int(shards[0].stem.rsplit("-", 1)[-1]):
        raise CheckpointError(f"{directory}: shards of the model are missing")
    stored: dict[str, Tensor] = {}
    for path in shards:
        try:
            with safe_open(path, framework="pt") as shard:
                for name in shard.keys():  # noqa: SIM118  (not a dict)
                    stored[name] = shard.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: damaged ({error})") from None
    return stored


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file under another name and move it into place."""
    with replacing(path) as unfinished:
        save_file(tensors, unfinished)
        unfinished.chmod(0o644)  # the library writes files that only their owner may read


def dequantize(stored: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Stored tensors as parameters of type `dtype`."""
    return {
        name: (tensor.to(torch.float32) * stored[name + SCALE_SUFFIX]).to(dtype)
        if name + SCALE_SUFFIX in stored
        else tensor.to(dtype)
        for name, tensor in stored.items()
        if not name.endswith(SCALE_SUFFIX)
    }


def average_states(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float], keep: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Weighted mean of parameters by name, float32; those whose names start with one of `keep` are the first state's.

    Raises:
        CheckpointError: when a parameter is missing from a state or has another shape there.
    """
    mean = {}
    for name, first in states[0].items():
        if name.startswith(keep):
            mean[name] = first.clone()
            continue
        if any(name not in state or state[name].shape != first.shape for state in states):
            raise CheckpointError(f"the models differ in {name}: only models of one configuration can be averaged")
        weighted = [weight * state[name].double() for state, weight in zip(states, weights, strict=True)]
        mean[name] = (torch.stack(weighted).sum(dim=0) / sum(weights)).float()
    return mean


def replace_experts(config: ModelConfig, state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The state of a model of `config` with all that `state` has but its routed experts and routers, which are new.

    Arguments:
        config: the new model's; it may differ from the old one's in the decoder's routed experts.
        state: the old model's parameters, float32.
        seed: of the new ones' initialisation, with which they add nothing.
    """
    torch.manual_seed(seed)
    new = FunASR(config).state_dict()
    kept = {name: tensor for name, tensor in state.items() if not any(part in name for part in _ROUTED)}
    return new | kept


class _SkipInitialisation(TorchFunctionMode):
    """Makes `torch.nn.init` do nothing: without memory to fill, its random draws only import seconds of torch."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


@contextmanager
def only_shapes() -> Iterator[None]:
    """Modules made here have parameters with shapes but neither memory nor values."""
    with torch.device("meta"), _SkipInitialisation():
        yield


def build_shapes(config: ModelConfig) -> FunASR:
    """A `FunASR` whose parameters have shapes but neither memory nor values, of whatever size."""
    with only_shapes():
        return FunASR(config)


def build_model(config: ModelConfig, state: dict[str, Tensor], where: str) -> FunASR:
    """A `FunASR` in evaluation mode that holds `state`'s tensors themselves (nothing is initialised and overwritten).

    Raises:
        CheckpointError: when a tensor is missing, unknown or of the wrong shape.
    """
    model = build_shapes(config)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise CheckpointError(f"{where}: the weights do not fit the configuration ({reason})") from None
    # Buffers that are computed, not stored.
    model.encoder.positions = sinusoids(config.encoder.max_frames, config.encoder.dim)
    for router in model.decoder.routers():
        router.load_E = torch.zeros(config.decoder.num_experts, dtype=torch.int64)
    return model.eval()
