"""WordPiece against transformers' tokenizer on the same vocabulary, and the layout of words."""

from pathlib import Path

import numpy as np
import pytest
from transformers import BertTokenizer

from fun_asr.errors import CheckpointError
from fun_asr.punctuation.wordpiece import MAX_WORD_PIECES, SPECIAL_PIECES, WordPieceTokenizer, WordTypes

PIECES = [*SPECIAL_PIECES, "play", "##ing", "##in", "##g", "don", "'", "t", "e", "##e", "##t", "a", "##a", "$", "0"]


def test_words_are_split_as_by_transformers(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    reference = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=True)
    words = ["playing", "Playin", "don't", "été", "$0", "x", "tea"]
    expected = [reference.convert_tokens_to_ids(reference.tokenize(word)) for word in words]
    assert WordPieceTokenizer(PIECES).split(words) == expected


def test_every_word_has_a_piece_and_not_too_many() -> None:
    tokenizer = WordPieceTokenizer(PIECES)
    assert tokenizer.split(["", "\u200b"]) == [[tokenizer.unknown]] * 2
    assert tokenizer.split(["a" * 60])[0] == [PIECES.index("a")] + [PIECES.index("##a")] * (MAX_WORD_PIECES - 1)


def test_layout_follows_the_words() -> None:
    types = WordTypes(WordPieceTokenizer(PIECES), ["play", "playing", "don't"])
    pieces, last = types.lay_out(np.array([2, 0, 1]))
    assert [PIECES[number] for number in pieces] == ["don", "'", "t", "play", "play", "##ing"]
    assert last.tolist() == [2, 3, 5]


def test_a_vocabulary_without_special_pieces_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"\[MASK\]"):
        WordPieceTokenizer(PIECES[:4])
