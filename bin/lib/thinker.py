"""The thinker of Qwen3-Omni with random weights that are held once: this project's network, and transformers' of views.

What is written is of no matter; every segment of a batch gets as many tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fun_asr.decoding.prefixed import PrefixedOptions, continue_prefixes
from fun_asr.models.qwen3.config import from_published
from fun_asr.models.qwen3.features import clip_log_mel
from fun_asr.models.qwen3.network import Qwen3
from fun_asr.models.qwen3.weights import Names, recipes
from fun_asr.weights.assemble import concatenated
from fun_asr.weights.load import only_shapes

__all__ = ["SIZES", "Waves", "make_network", "ours", "transformers", "transformers_model"]

Waves = list[npt.NDArray[np.float32]]

SPEECH = 20
"""The token in whose place a vector of the speech stands."""
PROMPT = (list(range(1, 11)), list(range(11, 19)))
"""Tokens before and after the speech."""
_VISION = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "deepstack_visual_indexes": [0],
    "num_position_embeddings": 16,
}  # fmt: skip
_COMMON: dict[str, Any] = {
    "model_type": "qwen3_omni_moe_thinker", "audio_token_id": SPEECH, "vision_start_token_id": 0,
    "audio_start_token_id": 1,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "30b-a3b": {
        **_COMMON,
        "audio_config": {"output_dim": 2048},
        "text_config": {
            "vocab_size": 152_064, "hidden_size": 2048, "intermediate_size": 768, "moe_intermediate_size": 768,
            "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
            "num_experts": 128, "num_experts_per_tok": 8,
        },
        "vision_config": {**_VISION, "out_hidden_size": 2048},
    },
    "tiny": {
        **_COMMON,
        "audio_config": {
            "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 32, "output_dim": 48,
            "downsample_hidden_size": 8,
        },
        "text_config": {
            "vocab_size": 200, "hidden_size": 48, "intermediate_size": 64, "moe_intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "num_experts": 8, "num_experts_per_tok": 3,
        },
        "vision_config": {**_VISION, "out_hidden_size": 48},
    },
}  # fmt: skip
"""What differs from the defaults of transformers, whose thinker has the encoder's published size."""
NAMES = Names(
    audio="model.audio_tower.",
    project=("model.audio_tower.proj1", "model.audio_tower.proj2"),
    text="model.language_model.",
    head="lm_head",
    fused_experts=True,
)


def make_network(sizes: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Qwen3:
    """This project's network, its weights drawn where they stay."""
    with only_shapes():
        network = Qwen3(from_published(sizes, "the sizes"))
    network.to(dtype).to_empty(device=device).requires_grad_(False).eval()
    for name, parameter in network.named_parameters():
        if "norm" in name and name.endswith("weight"):
            parameter.fill_(1.0)
        elif parameter.dim() == 1:
            parameter.zero_()
        else:  # a matrix of all experts at once would be drawn in twice its size
            for part in parameter if parameter.dim() == 3 else (parameter,):
                part.normal_(std=max(0.02, part[0].numel() ** -0.5))
    return network


@contextlib.contextmanager
def _without_parameters() -> Iterator[None]:
    """Modules made here have parameters with shapes only, and buffers as ever."""
    register = nn.Module.register_parameter

    def without_memory(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = without_memory  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def transformers_model(network: Qwen3, sizes: dict[str, Any], device: torch.device) -> Any:
    """The model of transformers over the same weights; what sees, which is tiny here, has its own."""
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import (
        Qwen3OmniMoeThinkerForConditionalGeneration,
    )

    with _without_parameters():
        kind: Any = Qwen3OmniMoeThinkerForConditionalGeneration
        model = kind(Qwen3OmniMoeThinkerConfig(**sizes)).eval()
    dtype = network.language_model.dtype
    views = _views(network, {name: tensor.shape for name, tensor in model.state_dict().items()})
    model.load_state_dict(views, strict=False, assign=True)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                empty = torch.zeros(parameter.shape, dtype=dtype, device=device)
                setattr(module, name, nn.Parameter(empty, requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)
    unseen = [name for name, tensor in model.state_dict().items() if name not in views and "visual" not in name]
    assert not unseen, unseen
    return model


def _views(network: Qwen3, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The published tensors that a network's parameters are made of."""
    state = network.state_dict()
    found: dict[str, Tensor] = {}
    for ours, recipe in recipes(network.config, NAMES).items():
        if recipe.make is not concatenated:  # queries' and keys' weight, once a head
            found.update(zip(recipe.names, (state[ours][0], state[ours][-1]), strict=True))
            continue
        parts = state[ours].flatten().split([shapes[name].numel() for name in recipe.names])
        found.update({name: part.view(shapes[name]) for name, part in zip(recipe.names, parts, strict=True)})
    return {name: part.detach() for name, part in found.items()}


def _features(waves: Waves, n_mels: int, device: torch.device) -> list[Tensor]:
    return [clip_log_mel(wave, n_mels=n_mels, device=device) for wave in waves]


def ours(network: Qwen3, device: torch.device, tokens: int) -> Callable[[Waves], list[list[int]]]:
    """This project's network and search."""
    model = network.language_model
    search = PrefixedOptions(stop=(0,), suppress=(0,), beam_size=1)

    @torch.inference_mode()
    def run(waves: Waves) -> list[list[int]]:
        vectors, counts = network.encoder(_features(waves, network.config.audio.n_mels, device))
        before, after = (model.embed(torch.tensor(part, device=device)) for part in PROMPT)
        prefixes = [torch.cat((before, part.to(before.dtype), after)) for part in vectors.split(counts)]
        lengths = [len(prefix) for prefix in prefixes]
        found = continue_prefixes(model, torch.cat(prefixes), lengths, [tokens] * len(waves), search)
        return [list(text.tokens) for text in found]

    return run


def transformers(model: Any, device: torch.device, tokens: int) -> Callable[[Waves], list[list[int]]]:
    """The transformers package."""
    audio = model.config.audio_config
    dtype = model.lm_head.weight.dtype

    @torch.inference_mode()
    def run(waves: Waves) -> list[list[int]]:
        features = torch.stack(_features(waves, audio.num_mel_bins, device))
        mask = torch.ones(features.shape[0], features.shape[2], dtype=torch.long, device=device)
        whole, rest = divmod(features.shape[2], 100)
        for _ in range(3):
            rest = -(-rest // 2)
        before, after = PROMPT
        row = [*before, *[SPEECH] * (13 * whole + rest), *after]
        ids = torch.tensor([row] * len(waves), device=device)
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), input_features=features.to(dtype),
            feature_attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
            eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        new: list[list[int]] = written[:, ids.shape[1] :].tolist()
        return new

    return run
