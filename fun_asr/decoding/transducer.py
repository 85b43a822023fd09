"""Greedy search with transducers (Graves 2012), with predicted durations (Xu et al. 2023) or without, in batches.

A batch goes from label to label (Bataev et al. 2024): each utterance looks through its frames for its next token while
its prediction stays the same, and the prediction network runs once for all of them. Shapes: B utterances, L frames, P
width of the joint, V vocabulary with the blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from fun_asr.decoding.frames import Emission

__all__ = ["TransducerNetwork", "greedy"]

State = tuple[Tensor, Tensor]


class TransducerNetwork(Protocol):
    """Prediction network and joint."""

    def start(self, rows: int) -> State:
        """The state before any token, whose first dimension is that of the rows."""

    def predict(self, tokens_B: Tensor, state: State) -> tuple[Tensor, State]:
        """One more token of each text; returns `[B, P]` and the state."""

    def joint(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Logits `[B, V + durations]` of frames and predictions `[B, P]`."""


def greedy(
    network: TransducerNetwork,
    encoded: Tensor,
    lengths_B: Tensor,
    *,
    blank: int,
    vocab_size: int,
    durations: Sequence[int] = (),
    max_symbols: int = 10,
) -> list[list[Emission]]:
    """The likeliest token at each step.

    Arguments:
        network: the model's.
        encoded: frames as the joint takes them, `[B, L, P]`.
        lengths_B: valid frames of each utterance, int64 `[B]`.
        blank: the blank's index; a text starts after it.
        vocab_size: V.
        durations: frames that the logits after those of the tokens stand for; none for a plain transducer, which stays
            at a frame until it says blank. A blank goes on by at least a frame.
        max_symbols: most tokens at a frame.
    """
    lengths = lengths_B.tolist()
    device = encoded.device
    frames, symbols = [0] * len(lengths), [0] * len(lengths)
    found: list[list[Emission]] = [[] for _ in lengths]
    active = [b for b, length in enumerate(lengths) if length > 0]
    if not active:
        return found
    predicted, state = network.predict(torch.full((len(active),), blank, device=device), network.start(len(active)))
    while active:
        emitted: dict[int, int] = {}  # utterance to its next token
        searching = list(range(len(active)))
        while searching:
            rows = torch.tensor([active[row] for row in searching], device=device)
            here = torch.tensor([frames[active[row]] for row in searching], device=device)
            whole = len(searching) == len(active)
            prediction = predicted if whole else predicted[torch.tensor(searching, device=device)]
            logits = network.joint(encoded[rows, here], prediction)
            best, tokens = logits[:, :vocab_size].max(dim=-1)
            log_probs = (best.float() - torch.logsumexp(logits[:, :vocab_size].float(), dim=-1)).tolist()
            steps = logits[:, vocab_size:].argmax(dim=-1).tolist() if durations else None
            still = []
            for place, (row, token) in enumerate(zip(searching, tokens.tolist(), strict=True)):
                b = active[row]
                duration = int(token == blank) if steps is None else durations[steps[place]]
                if token == blank:
                    frames[b] += max(1, duration)
                    symbols[b] = 0
                    if frames[b] < lengths[b]:
                        still.append(row)
                    continue
                # A plain transducer says nothing of a token's length.
                end = frames[b] + (1 if steps is None else duration)
                found[b].append(Emission(token, frames[b], min(end, lengths[b]), log_probs[place]))
                emitted[row] = token
                symbols[b] = symbols[b] + 1 if duration == 0 else 0
                frames[b] += duration
                if symbols[b] >= max_symbols:
                    frames[b], symbols[b] = frames[b] + 1, 0
            searching = still
        kept = [row for row in sorted(emitted) if frames[active[row]] < lengths[active[row]]]
        if kept:
            if len(kept) < len(active):
                rows = torch.tensor(kept, device=device)
                state = (state[0][rows], state[1][rows])
            predicted, state = network.predict(torch.tensor([emitted[row] for row in kept], device=device), state)
        active = [active[row] for row in kept]
    return found
