"""What a teacher says of utterances, kept on disk: the targets of distillation (Hinton et al. 2015).

Shapes: L encoder frames (20 ms), D width, S decoder inputs, P of their positions, K most likely tokens, R of the B
utterances of a batch, N positions in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fun_asr.errors import CheckpointError


@dataclass(frozen=True)
class TeachingEntry:
    """Where the teaching of one utterance is kept."""

    path: Path
    """Safetensors file of many."""
    number: int

    @classmethod
    def parse(cls, text: str, folder: Path) -> TeachingEntry:
        """The entry that a manifest in `folder` names by FILE#NUMBER.

        Raises:
            ValueError: when it is no such name.
        """
        file, separator, number = text.rpartition("#")
        if not separator:
            raise ValueError(f"teacher: expected FILE#NUMBER, got {text!r}")
        return cls(folder / file, int(number))


@dataclass(frozen=True)
class Teaching:
    """What a teacher says of one utterance."""

    frames_LD: Tensor
    """Its encoder's output over the utterance, float16."""
    tokens_S: Tensor
    """The decoder inputs along which it was asked, prompt and text, int32; none when only the frames are kept."""
    ids_PK: Tensor
    """The most likely next tokens at each of `taught_positions`, int32."""
    log_probs_PK: Tensor
    """Theirs, float32."""

    def tensors(self, number: int) -> dict[str, Tensor]:
        """By the names under which a file of many keeps them."""
        fields = dataclasses.fields(self)
        return {f"{number}.{f.name.rpartition('_')[0]}": getattr(self, f.name).contiguous() for f in fields}


def taught_positions(tokens: Sequence[int], prompt_length: int) -> list[int]:
    """The decoder inputs after which a teacher is asked: the first, for the language, and all from the prompt's end."""
    return [0, *range(prompt_length - 1, len(tokens))] if tokens else []


def load_teaching(entry: TeachingEntry) -> Teaching:
    """Read one utterance's teaching.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    try:
        with safe_open(entry.path, framework="pt") as file:
            names = (f"{entry.number}.{f.name.rpartition('_')[0]}" for f in dataclasses.fields(Teaching))
            return Teaching(*(file.get_tensor(name) for name in names))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{entry.path}: no teaching {entry.number} ({error})") from None


@dataclass(frozen=True)
class TeachingBatch:
    """The teaching of the utterances of a batch that have one."""

    rows_B: Tensor
    """Which have, bool."""
    frames_RLD: Tensor
    """Float16, zero beyond each utterance's frames."""
    positions_BS: Tensor
    """The decoder inputs after which the teacher was asked, bool."""
    ids_NK: Tensor
    """Int64, in the order of the positions."""
    log_probs_NK: Tensor
    """Float32."""

    def to(self, device: torch.device) -> TeachingBatch:
        """The same on `device`."""
        return TeachingBatch(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


def stack(
    teachings: Sequence[Teaching | None], frames: int, inputs: int, prompt_lengths: Sequence[int]
) -> TeachingBatch | None:
    """The teaching of a batch of utterances; None when none has any.

    Arguments:
        teachings: one for each utterance, or None.
        frames, inputs: encoder frames and decoder inputs of the batch, padding included.
        prompt_lengths: decoder inputs of each utterance before its text.
    """
    given = [teaching for teaching in teachings if teaching is not None]
    if not given:
        return None
    frames_RLD = torch.zeros(len(given), frames, given[0].frames_LD.shape[1], dtype=torch.float16)
    for row, teaching in zip(frames_RLD, given, strict=True):
        row[: len(teaching.frames_LD)] = teaching.frames_LD
    positions_BS = torch.zeros(len(teachings), inputs, dtype=torch.bool)
    for positions, maybe, prompt_length in zip(positions_BS, teachings, prompt_lengths, strict=True):
        if maybe is not None:
            positions[taught_positions(maybe.tokens_S.tolist(), prompt_length)] = True
    asked = [teaching for teaching in given if len(teaching.tokens_S)]
    return TeachingBatch(
        rows_B=torch.tensor([teaching is not None for teaching in teachings]),
        frames_RLD=frames_RLD,
        positions_BS=positions_BS,
        ids_NK=torch.cat([t.ids_PK for t in asked]).long() if asked else torch.zeros(0, 0, dtype=torch.int64),
        log_probs_NK=torch.cat([t.log_probs_PK for t in asked]) if asked else torch.zeros(0, 0),
    )
