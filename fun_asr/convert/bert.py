"""Weights of an uncased BERT, as sentence-transformers publishes MiniLM, as the start of a punctuation model.

The lowest layers are kept, and the pieces that a text uses most: what the others would have spelled, WordPiece splits
into shorter ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.punctuation.bert import BertConfig
from fun_asr.punctuation.network import PunctuationConfig, PunctuationModel, PunctuationNet
from fun_asr.punctuation.wordpiece import SPECIAL_PIECES, WordPieceTokenizer

_LAST_KEPT_CHARACTER = "\u00ff"


def punctuation_start(
    directory: Path, counts: Mapping[str, int], *, num_layers: int, num_pieces: int, max_positions: int
) -> PunctuationModel:
    """A punctuation model with the weights of a BERT and heads that know nothing yet.

    Arguments:
        directory: `config.json`, `vocab.txt` and `model.safetensors` of transformers' `BertModel`.
        counts: how often the words of a text come in it.
        num_layers: the lowest layers, that are kept.
        num_pieces: how many pieces are kept: the special ones, single Latin characters and the commonest others.
        max_positions: most pieces of one text.

    Raises:
        CheckpointError: when a file is missing or damaged.
        ConfigError: when the weights have fewer layers, pieces or positions.
    """
    try:
        values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        pieces = (directory / "vocab.txt").read_text(encoding="utf-8").split("\n")[: values["vocab_size"]]
        state = load_file(directory / "model.safetensors")
        for most, wanted in (("num_hidden_layers", num_layers), ("vocab_size", num_pieces)):
            if wanted > values[most]:
                raise ConfigError(f"{directory}: {most} is {values[most]}, fewer than the {wanted} asked for")
        if max_positions > values["max_position_embeddings"]:
            raise ConfigError(f"{directory}: knows {values['max_position_embeddings']} positions")
        kept = kept_pieces(pieces, counts, num_pieces)
        encoder = BertConfig(
            vocab_size=len(kept),
            dim=values["hidden_size"],
            num_layers=num_layers,
            num_heads=values["num_attention_heads"],
            ffn_dim=values["intermediate_size"],
            max_positions=max_positions,
        )
        net = PunctuationNet(PunctuationConfig(encoder=encoder))
        net.encoder.load_state_dict(encoder_weights(state, encoder, kept))
    except ConfigError:
        raise
    except (OSError, ValueError, RecursionError, SafetensorError, CheckpointError) as error:
        raise CheckpointError(f"{directory}: no weights of BERT ({error})") from None
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{directory}: not the weights of an uncased BERT ({error})") from None
    return PunctuationModel(net.eval(), [pieces[number] for number in kept], {})


def kept_pieces(pieces: list[str], counts: Mapping[str, int], num_pieces: int) -> list[int]:
    """The numbers of the pieces to keep, in their order."""
    used = Counter[int]()
    words = list(counts)
    for word, split in zip(words, WordPieceTokenizer(pieces).split(words), strict=True):
        for number in split:
            used[number] += counts[word]
    always = [n for n, piece in enumerate(pieces) if piece in SPECIAL_PIECES or _is_character(piece)]
    kept = dict.fromkeys([*always, *(number for number, _ in used.most_common())])
    return sorted(list(kept)[:num_pieces])


def _is_character(piece: str) -> bool:
    character = piece.removeprefix("##")
    return len(character) == 1 and character <= _LAST_KEPT_CHARACTER


def encoder_weights(state: Mapping[str, Tensor], config: BertConfig, kept: list[int]) -> dict[str, Tensor]:
    """The weights of transformers' `BertModel` as those of `BertEncoder`.

    Raises:
        KeyError: when one is missing.
    """
    embeddings = "embeddings"
    types = state[f"{embeddings}.token_type_embeddings.weight"]
    converted = {
        "pieces.weight": state[f"{embeddings}.word_embeddings.weight"][kept],
        "positions.weight": state[f"{embeddings}.position_embeddings.weight"][: config.max_positions] + types[0],
        "norm.weight": state[f"{embeddings}.LayerNorm.weight"],
        "norm.bias": state[f"{embeddings}.LayerNorm.bias"],
    }
    parts = {
        "out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "ffn_norm": "output.LayerNorm",
    }
    for layer in range(config.num_layers):
        theirs = f"encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            qkv = [state[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            converted[f"blocks.{layer}.qkv.{kind}"] = torch.cat(qkv)
            for ours, part in parts.items():
                converted[f"blocks.{layer}.{ours}.{kind}"] = state[f"{theirs}.{part}.{kind}"]
    return {name: tensor.float() for name, tensor in converted.items()}
