"""Where the decoder's routers send its tokens at inference, counted on request.

Shapes: N tokens, E experts, K experts per token.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from fun_asr.kernels import Routing, expert_load, routing_entropy
from fun_asr.layers.cache import DecoderCache
from fun_asr.layers.decoder import Decoder


class LayerRouting:
    """What one decoder layer's router has decided so far; the sums stay on its device until they are read.

    Arguments:
        layer: the decoder layer, from 0.
        num_experts: E.
        device: where the router runs.
    """

    def __init__(self, layer: int, num_experts: int, device: torch.device | None = None) -> None:
        self.layer = layer
        self.num_experts = num_experts
        self.tokens = 0
        self._load_E = torch.zeros(num_experts, dtype=torch.int64, device=device)
        self._entropy_sum = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, routing: Routing) -> None:
        """Count the router's decision for N tokens."""
        tokens = len(routing.experts_NK)
        self.tokens += tokens
        # Not in place: tensors made under inference mode could not be changed outside it.
        self._load_E = self._load_E + expert_load(routing.experts_NK, self.num_experts)
        self._entropy_sum = self._entropy_sum + routing_entropy(routing.probs_NE).double() * tokens

    @property
    def load(self) -> list[int]:
        """Tokens of each expert; their sum is K times `tokens`."""
        return [int(count) for count in self._load_E.tolist()]

    @property
    def dead(self) -> list[int]:
        """Experts that no token chose."""
        return [expert for expert, count in enumerate(self.load) if count == 0]

    @property
    def max_over_mean(self) -> float:
        """Load of the busiest expert by the mean load: from 1 (even) to E / K; 0 without tokens."""
        load = self.load
        return max(load) * self.num_experts / max(sum(load), 1)

    @property
    def entropy(self) -> float:
        """Mean over the tokens of the entropy of the router's probabilities, in nats: 0 to log E; 0 without tokens."""
        return float(self._entropy_sum) / max(self.tokens, 1)

    @property
    def entropy_share(self) -> float:
        """`entropy` as a share of log E, its largest value; 0 for a single expert."""
        return self.entropy / math.log(self.num_experts) if self.num_experts > 1 else 0.0


_BLOCKS: ContextVar[frozenset[object]] = ContextVar("routing that is collected", default=frozenset())
"""The `with` blocks that this thread, or whoever it works for, is in."""


@contextmanager
def collect_routing(decoder: Decoder) -> Iterator[list[LayerRouting]]:
    """Count, inside the `with` block, where the routers send the text tokens of what is decoded step by step.

    A token counts in every layer once it is fed back to predict the next one. So a hypothesis of n text tokens counts
    n, or n - 1 where the length limit ended it, since its last token is then never read. Not counted: the prompt and
    language detection (the first step on a cache), the end of text, hypotheses already finished, which leave the batch,
    and `Decoder.forward`, where padding cannot be told from text. What a guard later cuts from the text does count,
    and in beam search so does every row of the beam, those given up later included.

    Outputs do not change, and a decoder that is not being watched does no work for this. Blocks may be nested; each
    counts for itself. What other threads decode meanwhile does not count, but for those that this one's calls start.

    Arguments:
        decoder: float or int8; its routers are the same.

    Returns:
        a context manager that gives one `LayerRouting` a layer, none without routed experts; they grow while the block
        runs and stay readable after it.
    """
    layers = []
    handles = []
    block = object()
    step = threading.local()

    def begin_step(_block: nn.Module, args: tuple[Any, ...]) -> None:
        step.text = block in _BLOCKS.get() and any(
            isinstance(argument, DecoderCache) and argument.length > 0 for argument in args
        )

    def count(layer: LayerRouting, routing: Routing) -> None:
        if getattr(step, "text", False):
            layer.add(routing)

    token = _BLOCKS.set(_BLOCKS.get() | {block})
    try:
        handles.append(decoder.blocks[0].register_forward_pre_hook(begin_step))
        for number, router in enumerate(decoder.routers()):
            layer = LayerRouting(number, len(router.balance_E), router.balance_E.device)
            layers.append(layer)
            handles.append(router.register_forward_hook(lambda _, __, routing, layer=layer: count(layer, routing)))
        yield layers
    finally:
        for handle in handles:
            handle.remove()
        _BLOCKS.reset(token)
