"""Tokenizers: prompts, round trips."""

from pathlib import Path

import pytest

from fun_asr.errors import CheckpointError
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer, train_ctc_tokenizer

BUNDLED = Path(__file__).parents[2] / "fun_asr" / "assets" / "model"


def test_prompt_is_whispers() -> None:
    tokenizer = Tokenizer(BUNDLED / "tokenizer.json")
    assert tokenizer.prompt("en") == [50258, 50259, 50359, 50363]
    assert tokenizer.eot == 50257
    assert len(tokenizer.languages) == 99


def test_captions_are_told_from_words() -> None:
    tokenizer = Tokenizer(BUNDLED / "tokenizer.json")
    for caption in ("[MUSIC]", "(laughs)", "♪♪"):
        assert tokenizer.encode(caption)[0] in tokenizer.captions
    for words in ("Music", "$5", '"Yes," he said', "well-known"):
        assert not set(tokenizer.encode(words)) & set(tokenizer.captions)


@pytest.mark.parametrize("text", ["The price is $25.50, isn't it?", "官至贵州按察使。", "Ένα, δύο", "naïve café"])
def test_text_survives_the_decoder_tokens(text: str) -> None:
    tokenizer = Tokenizer(BUNDLED / "tokenizer.json")
    assert tokenizer.decode([*tokenizer.encode(text), tokenizer.eot]) == text
    assert tokenizer.encode("") == []


def test_ctc_vocabulary_spells_every_word_and_ends_with_the_blank(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"it's the number {word} again" for word in ("one", "two", "three", "four")) + "\n")
    trained = train_ctc_tokenizer(text, tmp_path / "ctc.model", 20)
    read = CTCTokenizer(tmp_path / "ctc.model")
    tokens = read.encode("it's four gain")
    assert read.decode([*tokens, read.blank]) == "it's four gain"
    assert max(tokens) < read.blank == read.vocab_size - 1 == trained.blank
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ctc.model", "text.txt"]


def test_damaged_tokenizers_are_named(tmp_path: Path) -> None:
    for name, tokenizer in (("tokenizer.json", Tokenizer), ("ctc.model", CTCTokenizer)):
        (tmp_path / name).write_text("{}")
        with pytest.raises(CheckpointError, match=name):
            tokenizer(tmp_path / name)
