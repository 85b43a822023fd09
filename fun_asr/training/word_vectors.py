"""Word vectors to start from: what a speech recogniser's decoder knows about words, in fewer dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.errors import ConfigError
from fun_asr.model.checkpoint import SCALE_SUFFIX, TOKENIZER_FILE, dequantize, load_stored
from fun_asr.text.tokenizer import Tokenizer

_EMBEDDING = "decoder.embedding.weight"
_DEVIATION = 0.15


def word_vectors(directory: Path, words: Sequence[str], dim: int) -> Tensor:
    """The mean token vectors of words in their `dim` principal directions, float32 `[N, dim]`.

    Arguments:
        directory: a model directory.
        words: N words.

    Raises:
        CheckpointError: when the model cannot be read.
        ConfigError: when its token vectors have fewer than `dim` dimensions.
    """
    stored = load_stored(directory)
    kept = {name: stored[name] for name in (_EMBEDDING, _EMBEDDING + SCALE_SUFFIX) if name in stored}
    tokens_VD = dequantize(kept)[_EMBEDDING]
    if tokens_VD.shape[1] < dim:
        raise ConfigError(f"{directory}: its vectors have {tokens_VD.shape[1]} dimensions, fewer than {dim}")
    tokenizer = Tokenizer(directory / TOKENIZER_FILE)
    words_ND = torch.stack([tokens_VD[tokenizer.encode(" " + word)].mean(dim=0) for word in words])
    words_ND = words_ND - words_ND.mean(dim=0)
    _, directions_DD = torch.linalg.eigh(words_ND.T @ words_ND)  # ascending
    vectors: Tensor = words_ND @ directions_DD[:, -dim:]
    return vectors.mul_(_DEVIATION / vectors.std())
