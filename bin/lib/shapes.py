"""Model folders of published sizes with random weights, for measuring speed where the weights are not to be had."""

from __future__ import annotations

import shutil
import string
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fun_asr.weights.ctranslate2 import read_variables

__all__ = ["SHAPES", "make_conformer", "make_whisper"]

SHAPES: dict[str, dict[str, Any]] = {
    "parakeet-110m": {"hidden_size": 512, "num_hidden_layers": 17, "intermediate_size": 2048},
    "parakeet-0.6b": {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096},
    "parakeet-test": {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "subsampling_conv_channels": 8,
    },
    "granite-470m": {},
}  # fmt: skip
"""What differs from the defaults of transformers' encoders, which are those of the largest models."""

WRITTEN_TOKENS = 24  # of a random Whisper, whatever it hears: about as many as a clip of eight seconds has
PROMPT_TOKENS = 4


def make_conformer(name: str, folder: Path) -> None:
    """Save a Parakeet or Granite CTC model of a published size as transformers does."""
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import (
        GraniteSpeech5CTCConfig,
        GraniteSpeech5ForCTC,
        ParakeetCTCConfig,
        ParakeetForCTC,
    )

    torch.manual_seed(0)
    model: Any
    if name.startswith("granite"):
        config: Any = GraniteSpeech5CTCConfig(encoder_config=SHAPES[name])
        model = GraniteSpeech5ForCTC(config)
    else:
        config = ParakeetCTCConfig(vocab_size=1025, pad_token_id=1024, encoder_config=SHAPES[name])
        model = ParakeetForCTC(config)
    model.save_pretrained(folder)
    pieces = {"<unk>" if i == 0 else f"▁{_word(i)}": i for i in range(config.vocab_size)}
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(folder / "tokenizer.json"))


def _word(number: int) -> str:
    letters = ""
    while number:
        number, place = divmod(number, 26)
        letters += string.ascii_lowercase[place]
    return letters


@dataclass(frozen=True)
class _WhisperSizes:
    dim: int
    heads: int
    layers: int
    vocabulary: int


def make_whisper(dim: int, layers: int, like: Path, folder: Path) -> None:
    """Save a Whisper model of another size as CTranslate2 does.

    The decoder's positions make it write `WRITTEN_TOKENS` tokens whatever it hears, so that every system decodes for
    as many steps.

    Arguments:
        dim, layers: width, and depth of the encoder and of the decoder.
        like: a folder with a CTranslate2 Whisper whose tokens are taken over.
        folder: where the files go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in like.iterdir():
        if path.name != "model.bin":
            shutil.copy(path, folder)
    stored = read_variables(like / "model.bin")
    sizes = _WhisperSizes(dim, dim // 64, layers, len(stored["decoder/embeddings/weight"]))
    # Tokens of text end where the special ones begin.
    end = 50_257 if sizes.vocabulary != 51_864 else 50_256
    variables = {name: array for name, array in stored.items() if array.ndim == 0}
    variables |= {f"{side}/num_heads": np.array(sizes.heads, np.int16) for side in ("encoder", "decoder")}
    variables |= {name: array.astype(np.float16) for name, array in _variables(sizes, end)}
    with (folder / "model.bin").open("wb") as file:
        _write(file, variables)


def _variables(sizes: _WhisperSizes, end: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    rng = np.random.default_rng(0)
    dim = sizes.dim

    def normal(*shape: int, scale: float) -> npt.NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        yield f"{name}/weight", normal(rows, columns, scale=columns**-0.5)
        yield f"{name}/bias", np.zeros(rows, np.float32)

    def norm(name: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        yield f"{name}/gamma", np.ones(dim, np.float32)
        yield f"{name}/beta", np.zeros(dim, np.float32)

    yield "encoder/conv1/weight", normal(dim, 80, 3, scale=0.05)
    yield "encoder/conv1/bias", np.zeros(dim, np.float32)
    yield "encoder/conv2/weight", normal(dim, dim, 3, scale=0.02)
    yield "encoder/conv2/bias", np.zeros(dim, np.float32)
    yield "encoder/position_encodings/encodings", normal(1500, dim, scale=0.1)
    embeddings = normal(sizes.vocabulary, dim, scale=0.05)
    yield "decoder/embeddings/weight", embeddings
    positions = normal(448, dim, scale=0.2)
    # In the direction of the token that ends a text, and away from it before: it decides over all that is heard.
    direction = embeddings[end] / np.linalg.norm(embeddings[end])
    last = PROMPT_TOKENS - 1 + WRITTEN_TOKENS
    positions[:last] -= 10 * direction
    positions[last:] += 1000 * direction
    yield "decoder/position_encodings/encodings", positions
    for side in ("encoder", "decoder"):
        yield from norm(f"{side}/layer_norm")
        for number in range(sizes.layers):
            layer = f"{side}/layer_{number}"
            yield from norm(f"{layer}/self_attention/layer_norm")
            yield from linear(f"{layer}/self_attention/linear_0", 3 * dim, dim)
            yield from linear(f"{layer}/self_attention/linear_1", dim, dim)
            if side == "decoder":
                yield from norm(f"{layer}/attention/layer_norm")
                yield from linear(f"{layer}/attention/linear_0", dim, dim)
                yield from linear(f"{layer}/attention/linear_1", 2 * dim, dim)
                yield from linear(f"{layer}/attention/linear_2", dim, dim)
            yield from norm(f"{layer}/ffn/layer_norm")
            yield from linear(f"{layer}/ffn/linear_0", 4 * dim, dim)
            yield from linear(f"{layer}/ffn/linear_1", dim, 4 * dim)


def _write(file: BinaryIO, variables: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Version 6 of CTranslate2's format."""

    def string_of(text: str) -> bytes:
        data = text.encode() + b"\0"
        return struct.pack("<H", len(data)) + data

    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    file.write(struct.pack("<I", 6) + string_of("WhisperSpec") + struct.pack("<II", 3, len(variables)))
    for name, array in variables.items():
        file.write(string_of(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape))
        file.write(struct.pack("<BI", kinds[array.dtype.name], array.nbytes))
        file.write(np.ascontiguousarray(array).tobytes())
    file.write(struct.pack("<I", 1) + string_of("decoder/projection/weight") + string_of("decoder/embeddings/weight"))
