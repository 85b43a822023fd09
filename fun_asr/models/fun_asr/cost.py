"""What a network costs, counted from the shapes of its parameters: their number, arithmetic, and memory read.

FLOPs are those of matrix products, convolutions and attention, two a multiply-add (Kaplan et al. 2020, section 2.1:
2 N a token for N parameters, plus attention); normalisation, activations and softmax are left out.
Shapes: L encoder frames (20 ms), J CTC frames (40 ms), D width, E experts, K experts per token.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fun_asr.errors import ConfigError
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.models.fun_asr.config import ModelConfig
from fun_asr.models.fun_asr.load import build_shapes
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.weights.int8 import stored_as_int8
from fun_asr.weights.precision import ComputeType

# What the names of a part's parameters contain.
_DECODER_PARTS = {
    "embedding": ("decoder.embedding.", "decoder.positions"),
    "self_attention": (".self_attention.",),
    "cross_attention": (".cross_attention.",),
    "shared_expert": (".ffn.shared.",),
    "router": (".ffn.router.",),
    "routed_experts": (".ffn.experts.",),
    "norms": ("norm.",),
}

_COUNTED = (ComputeType.FLOAT32, ComputeType.BFLOAT16, ComputeType.INT8)  # float16 takes what bfloat16 takes


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of one part of the network."""

    total: int
    active: int
    """Those that one token passes on its way through the decoder: K of E routed experts, one row of the position
    table. Audio frames pass the encoder, the CTC head and the projection to the cross-attention's keys and values; a
    token does not."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one part of the network."""

    total: float
    attention: float
    """Of these, the scores and weighted sums of attention, which grow with the square of the segment's length."""


@dataclass(frozen=True)
class DecodeBytes:
    """Memory that one sequence's decoding reads and keeps, in bytes."""

    weights_per_token: int
    """The active parameters, each once. In int8 as a model directory stores them: matrices in a byte a value and a
    float32 scale an output channel, all else float32."""
    self_cache_per_token: int
    """Keys and values of the tokens so far, all layers."""
    cross_cache_per_second: int
    """Keys and values of a second of audio, all layers, shared by the hypotheses of an utterance."""


@dataclass(frozen=True)
class ModelInfo:
    """The cost of a model; the parts are named as in `count_parameters` and `count_flops`."""

    parameters: dict[str, ParameterCount]
    segment_seconds: float
    tokens_per_second: float
    flops_per_second: dict[str, Flops]
    """A second of audio in a segment of `segment_seconds`, of which `tokens_per_second` are decoded."""
    decode_bytes: dict[str, DecodeBytes]
    """By compute type: float32, bfloat16, int8."""


def describe(config: ModelConfig, *, tokens_per_second: float, segment_seconds: float = 30.0) -> ModelInfo:
    """Count a model's cost from its configuration, without its weights or memory for them.

    Arguments:
        config: the model's sizes.
        tokens_per_second: tokens that the decoder reads a second of audio, prompt included.
        segment_seconds: length of the segments; the encoder's longest input if that is shorter.

    Raises:
        ConfigError: when a segment's tokens are none, or do not fit the decoder.
    """
    network = build_shapes(config)
    segment_seconds = min(segment_seconds, config.encoder.max_frames / ENCODER_FRAMES_PER_SECOND)
    if not 0.5 < tokens_per_second * segment_seconds <= config.decoder.max_tokens:
        raise ConfigError(
            f"{tokens_per_second:g} tokens a second in a segment of {segment_seconds:g} s: the decoder takes 1 to "
            f"{config.decoder.max_tokens} (decoder.max_tokens)"
        )
    flops = count_flops(
        network,
        frames=2 * round(segment_seconds * ENCODER_FRAMES_PER_SECOND),
        tokens=round(segment_seconds * tokens_per_second),
    )
    return ModelInfo(
        parameters=count_parameters(network),
        segment_seconds=segment_seconds,
        tokens_per_second=tokens_per_second,
        flops_per_second={
            part: Flops(count.total / segment_seconds, count.attention / segment_seconds)
            for part, count in flops.items()
        },
        decode_bytes={kind.value: count_decode_bytes(network, kind) for kind in _COUNTED},
    )


def count_parameters(network: FunASR) -> dict[str, ParameterCount]:
    """Parameters by part: encoder, ctc, decoder, the decoder's own parts as decoder.PART, and model, their sum."""
    parts = ["encoder", "ctc", "decoder", *(f"decoder.{part}" for part in _DECODER_PARTS), "model"]
    total, active = dict.fromkeys(parts, 0), dict.fromkeys(parts, 0)
    for name, parameter in network.named_parameters():
        for part in _parts(name):
            total[part] += parameter.numel()
            active[part] += 0 if _is_per_frame(name) else _passed(name, parameter, network.config.decoder)
    return {part: ParameterCount(total[part], active[part]) for part in parts}


def count_flops(network: FunASR, *, frames: int, tokens: int) -> dict[str, Flops]:
    """FLOPs of one segment by part: encoder, ctc, decoder and model, their sum.

    A product of n rows with a matrix of P values takes 2 n P. Attention of n queries to m keys takes 4 n m D: 2 n m D
    for the scores and as many for the weighted sums. Tokens are decoded one by one over a cache: the t-th attends to t.

    Arguments:
        network: on any device, the meta device included.
        frames: log-mel frames (10 ms).
        tokens: decoded tokens, prompt included.
    """
    config = network.config
    L = -(-frames // 2)
    J = -(-L // config.ctc.stride)
    rows = {"encoder.conv1.": frames, "encoder.": L, "ctc.": J, "decoder.": tokens}
    attention = {
        "encoder": config.encoder.num_layers * 4 * L * L * config.encoder.dim,
        "ctc": config.ctc.num_blocks * 4 * J * J * config.ctc.hidden_dim,
        "decoder": config.decoder.num_layers * (2 * tokens * (tokens + 1) + 4 * tokens * L) * config.decoder.dim,
    }
    total = dict(attention)
    for name, parameter in network.named_parameters():
        if parameter.dim() >= 2 and name != "decoder.positions":
            per_row = 2 * _passed(name, parameter, config.decoder)
            prefix = next(prefix for prefix in rows if name.startswith(prefix))
            total[name.partition(".")[0]] += per_row * (L if _is_cross_projection(name) else rows[prefix])
    flops = {part: Flops(total[part], attention[part]) for part in attention}
    return {**flops, "model": Flops(sum(total.values()), sum(attention.values()))}


def count_decode_bytes(network: FunASR, compute_type: ComputeType) -> DecodeBytes:
    """Bytes that decoding one sequence with weights of a compute type reads and keeps.

    A token's keys and values take 2 D values a layer, as an encoder frame's do; int8 networks keep them in float32.
    """
    config = network.config.decoder
    width = 2 if compute_type is ComputeType.BFLOAT16 else 4
    weights = 0
    for name, parameter in network.named_parameters():
        if _is_per_frame(name):
            continue
        count = _passed(name, parameter, config)
        if compute_type is ComputeType.INT8 and stored_as_int8(name, parameter):
            inputs = parameter[0, 0].numel() if ".experts." in name else parameter[0].numel()
            weights += count + 4 * (count // inputs)
        else:
            weights += count * width
    position = 2 * config.dim * config.num_layers * width
    return DecodeBytes(weights, position, position * ENCODER_FRAMES_PER_SECOND)


def _parts(name: str) -> list[str]:
    top = name.partition(".")[0]
    if top != "decoder":
        return [top, "model"]
    part = next(part for part, marks in _DECODER_PARTS.items() if any(mark in name for mark in marks))
    return [top, f"{top}.{part}", "model"]


def _is_cross_projection(name: str) -> bool:
    return ".cross_attention.kv." in name


def _is_per_frame(name: str) -> bool:
    return not name.startswith("decoder.") or _is_cross_projection(name)


def _passed(name: str, parameter: Tensor, config: DecoderConfig) -> int:
    """How many of a parameter's values one row, a frame or a token, meets where it passes."""
    if name == "decoder.positions":
        return parameter.shape[1]
    if ".ffn.experts." in name:
        return parameter.numel() // config.num_experts * config.num_experts_per_token
    return parameter.numel()
