"""Byte-level BPE by ranks: the tokens of tiktoken."""

from pathlib import Path

import pytest

from fun_asr.errors import CheckpointError
from fun_asr.text.ranked_bpe import RankedBPE
from tests.models.fun_asr_nano.folders import write_ctc_vocabulary
from tests.models.sanm.upstream import FIXTURE


@pytest.fixture
def tokenizer(tmp_path: Path) -> RankedBPE:
    write_ctc_vocabulary(tmp_path / "small.tiktoken")
    return RankedBPE(tmp_path / "small.tiktoken")


@pytest.mark.parametrize(("text", "tokens"), FIXTURE["tiktoken"].items())
def test_texts_have_the_tokens_of_tiktoken(tokenizer: RankedBPE, text: str, tokens: list[int]) -> None:
    assert tokenizer.encode(text) == tokens
    assert tokenizer.decode(tokens) == text


def test_special_and_unknown_tokens_are_nothing(tokenizer: RankedBPE) -> None:
    assert tokenizer.decode([*tokenizer.encode("the ox"), len(tokenizer), 10**6]) == "the ox"
    assert tokenizer.encode("") == []


@pytest.mark.parametrize("content", [b"IQ== 0\n", b"no vocabulary\n", b"IQ== x\n", b"\xff\xfe 0\n", b""])
def test_damaged_files_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "small.tiktoken").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"small\.tiktoken"):
        RankedBPE(tmp_path / "small.tiktoken")
