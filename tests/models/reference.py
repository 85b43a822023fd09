"""Published models as transformers makes them, with random weights and small sizes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece
import torch
from torch import nn

from fun_asr.audio.decode import decode
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span

DATA = Path(__file__).parents[1] / "data"
SENTENCES = [line["text"] for line in map(json.loads, (DATA / "speech.jsonl").read_text("utf-8").splitlines())]


def clips() -> list[npt.NDArray[np.float32]]:
    """Real recordings of 2 to 6 s, of different lengths."""
    found = [np.asarray(decode(path), np.float32) for path in sorted(DATA.glob("*.opus"))]
    return [clip[: 6 * 16000 - 777 * i] for i, clip in enumerate(found)]


def segments(waves: list[npt.NDArray[np.float32]]) -> list[AudioSegment]:
    return [AudioSegment(i, Span(16000, 16000 + len(wave)), wave) for i, wave in enumerate(waves)]


def train_pieces(directory: Path, pieces: int) -> Path:
    """A SentencePiece model of sentences with capitals, as Parakeet's."""
    text = directory / "sentences.txt"
    text.write_text("\n".join(f"{line.capitalize()}." for line in SENTENCES for _ in range(3)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(directory / "pieces"), vocab_size=pieces, model_type="bpe", bos_id=-1,
        eos_id=-1, num_threads=1, minloglevel=2, character_coverage=1.0,
    )  # fmt: skip
    return directory / "pieces.model"


@torch.no_grad()
def randomise(model: nn.Module, seed: int, amount: float = 0.1) -> None:
    """Make every parameter and statistic count: as made, norms and biases are ones and zeros."""
    torch.manual_seed(seed)
    stored = model.state_dict(keep_vars=True)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "running_var" in name:
            tensor.add_(torch.rand_like(tensor))
        elif tensor.dtype.is_floating_point and name in stored:  # what is not stored, such as positions, is no weight
            tensor.add_(amount * torch.randn_like(tensor))


def worst(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
