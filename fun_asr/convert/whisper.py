"""OpenAI Whisper weights, from a CTranslate2 file, into a `FunASR` model.

Whisper's feed-forward becomes the decoder's shared expert; what Whisper lacks (convolution modules, router, routed
experts, CTC head) keeps its initialisation, which adds nothing, so the model computes what Whisper computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.weights.ctranslate2 import float_tensor, read_variables

NEW_MODULES = (".conv.", ".router.", ".experts.", "ctc.")
"""Parts of parameter names that Whisper has no counterpart of."""


def load_ctranslate2(model: FunASR, path: Path) -> None:
    """Copy the Whisper weights of a CTranslate2 `model.bin` into `model`.

    Raises:
        CheckpointError: when the file is damaged or its sizes differ from the model's.
    """
    variables = read_variables(path)
    try:
        converted = _convert(model, lambda name: float_tensor(variables, name).float())
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({error})") from None
    except KeyError as error:
        raise CheckpointError(f"{path}: not the weights of a Whisper model of this size: no {error}") from None
    own = model.state_dict()
    for name, tensor in converted.items():
        if name not in own or own[name].shape != tensor.shape:
            expected = tuple(own[name].shape) if name in own else "nothing"
            raise CheckpointError(f"{path}: {name} has shape {tuple(tensor.shape)}, the model expects {expected}")
    missing = [name for name in own if name not in converted and not any(part in name for part in NEW_MODULES)]
    if missing:
        raise CheckpointError(f"{path}: no weights for {missing[0]}")
    model.load_state_dict(converted, strict=False)


def _convert(model: FunASR, get: Callable[[str], Tensor]) -> dict[str, Tensor]:
    def linear(name: str) -> dict[str, Tensor]:
        return {"weight": get(f"{name}/weight"), "bias": get(f"{name}/bias")}

    def norm(name: str) -> dict[str, Tensor]:
        return {"weight": get(f"{name}/gamma"), "bias": get(f"{name}/beta")}

    def block(ours: str, theirs: str, attention_norm: str, attention: str, ffn: str) -> dict[str, dict[str, Tensor]]:
        """What blocks of both sides have, under the names of one side."""
        return {
            f"{ours}.{attention_norm}": norm(f"{theirs}/self_attention/layer_norm"),
            f"{ours}.{attention}.qkv": linear(f"{theirs}/self_attention/linear_0"),
            f"{ours}.{attention}.out": linear(f"{theirs}/self_attention/linear_1"),
            f"{ours}.ffn_norm": norm(f"{theirs}/ffn/layer_norm"),
            f"{ours}.{ffn}.up": linear(f"{theirs}/ffn/linear_0"),
            f"{ours}.{ffn}.down": linear(f"{theirs}/ffn/linear_1"),
        }

    parts: dict[str, dict[str, Tensor]] = {
        "encoder.conv1": linear("encoder/conv1"),
        "encoder.conv2": linear("encoder/conv2"),
        "encoder.norm": norm("encoder/layer_norm"),
        "decoder.embedding": {"weight": get("decoder/embeddings/weight")},
        "decoder.norm": norm("decoder/layer_norm"),
    }
    for layer in range(model.config.encoder.num_layers):
        ours, theirs = f"encoder.blocks.{layer}", f"encoder/layer_{layer}"
        parts |= block(ours, theirs, "attention_norm", "attention", "ffn")
    for layer in range(model.config.decoder.num_layers):
        ours, theirs = f"decoder.blocks.{layer}", f"decoder/layer_{layer}"
        parts |= block(ours, theirs, "self_norm", "self_attention", "ffn.shared")
        parts[f"{ours}.cross_norm"] = norm(f"{theirs}/attention/layer_norm")
        parts[f"{ours}.cross_attention.q"] = linear(f"{theirs}/attention/linear_0")
        parts[f"{ours}.cross_attention.kv"] = linear(f"{theirs}/attention/linear_1")
        parts[f"{ours}.cross_attention.out"] = linear(f"{theirs}/attention/linear_2")
    return _flatten(parts) | {"decoder.positions": get("decoder/position_encodings/encodings")}


def _flatten(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{module}.{name}": tensor for module, tensors in parts.items() for name, tensor in tensors.items()}
