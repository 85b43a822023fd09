"""The tree's bonus against its definition, the ways to write a phrase, and CTC's search."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fun_asr.decoding import ctc
from fun_asr.decoding.hotwords import START, Hotwords, HotwordTree, RowBias
from fun_asr.decoding.piece_hotwords import PieceHotwords
from fun_asr.text.hotwords import Hotword
from fun_asr.text.pieces import Pieces
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer

BUNDLED = Path(__file__).parents[2] / "fun_asr" / "assets" / "model"
CONTINUES, ENDS_IN_LETTER = frozenset({0, 1}), frozenset({0, 2, 3})
VOCABULARY = 5

Phrases = list[tuple[list[int], float]]
phrase_lists = st.lists(
    st.tuples(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4), st.sampled_from([0.5, 1.0, 2.0])),
    max_size=5,
)
texts = st.lists(st.integers(0, VOCABULARY - 1), max_size=12)


def may_start(text: list[int], start: int) -> bool:
    return not (start and text[start - 1] in ENDS_IN_LETTER and text[start] in CONTINUES)


def kept_bonus(phrases: Phrases, text: list[int], *, ended: bool) -> float:
    """For each place where a word ends, that of the best phrase that ends there too."""
    total = 0.0
    for end in range(1, len(text) + 1):
        if (end == len(text) and not ended) or (end < len(text) and text[end] in CONTINUES):
            continue
        total += max(
            (
                len(phrase) * bonus
                for phrase, bonus in phrases
                if len(phrase) <= end and text[end - len(phrase) : end] == phrase and may_start(text, end - len(phrase))
            ),
            default=0.0,
        )
    return total


def pending_bonus(phrases: Phrases, text: list[int]) -> float:
    """That of the most promising beginning of a phrase that the text ends with."""
    return max(
        (
            (len(text) - start) * bonus
            for start in range(len(text))
            for phrase, bonus in phrases
            if phrase[: len(text) - start] == text[start:] and may_start(text, start)
        ),
        default=0.0,
    )


@settings(deadline=None)
@given(phrase_lists, texts)
def test_bonus_equals_its_definition(phrases: Phrases, text: list[int]) -> None:
    tree = HotwordTree(phrases, continues=CONTINUES, ends_in_letter=ENDS_IN_LETTER)
    kept, place = 0.0, START
    for i, token in enumerate(text):
        gained, place = tree.move(place, token)
        kept += gained
        assert kept == pytest.approx(kept_bonus(phrases, text[: i + 1], ended=False))
        assert tree.pending(place) == pytest.approx(pending_bonus(phrases, text[: i + 1]))
    assert kept + tree.complete(place) == pytest.approx(kept_bonus(phrases, text, ended=True))


@settings(deadline=None, max_examples=30)
@given(phrase_lists, st.lists(texts.filter(bool), min_size=1, max_size=4), st.integers(0, 2**16))
def test_rows_have_the_bonus_of_their_texts(phrases: Phrases, rows: list[list[int]], seed: int) -> None:
    """Rows start as one and take different ways; tokens beyond the margin break off every phrase."""
    tree = HotwordTree(phrases, continues=CONTINUES, ends_in_letter=ENDS_IN_LETTER, margin=1.0)
    length = min(map(len, rows))
    draw = torch.Generator().manual_seed(seed)
    bias = RowBias([tree], torch.device("cpu"))
    states = [(0.0, START)] * len(rows)
    sources = [0] * len(rows)
    for step in range(length):
        log_probs = torch.randn(1 if step == 0 else len(rows), VOCABULARY, generator=draw).log_softmax(-1)
        added = bias.added(log_probs) - log_probs
        plausible = log_probs >= log_probs.amax(-1, keepdim=True) - 1
        for source, (kept, place) in zip(sources, states, strict=True):
            for token in range(VOCABULARY):
                gained, after = tree.move(place, token, plausible=bool(plausible[source, token]))
                assert float(added[source, token]) == pytest.approx(kept + gained + tree.pending(after), abs=1e-5)
        tokens = [row[step] for row in rows]
        moved = []
        for source, token, (kept, place) in zip(sources, tokens, states, strict=True):
            gained, after = tree.move(place, token, plausible=bool(plausible[source, token]))
            moved.append((kept + gained, after))
        bias.advance(sources, tokens)
        states, sources = moved, list(range(len(rows)))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(BUNDLED / "tokenizer.json")


@pytest.fixture(scope="module")
def pieces() -> CTCTokenizer:
    return CTCTokenizer(BUNDLED / "ctc.model")


def bonus(tree: HotwordTree | None, tokens: list[int]) -> float:
    assert tree is not None
    kept, place = 0.0, START
    for token in tokens:
        gained, place = tree.move(place, token)
        kept += gained
    return kept + tree.complete(place)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("ada lovelace", "It was Ada Lovelace."),
        ("Ada Lovelace", "and ada lovelace's notes"),
        ("lovelace", "Lovelace wrote it."),
        ("Zuse", "Konrad-Zuse-Straße"),
        ("Zuse", 'the "Zuse"'),
        ("Straße", "die Straße"),
        ("千户", "时置通海千户所。"),
        ("GPT", "我用GPT写"),
        ("Москва", "это Москва"),
    ],
)
def test_phrases_are_found_as_they_may_be_written(
    tokenizer: Tokenizer, pieces: CTCTokenizer, phrase: str, text: str
) -> None:
    hotwords = Hotwords([Hotword(phrase)], tokenizer, pieces, unheard_token_bonus=1.0)
    assert bonus(hotwords.decoder_tree(None), tokenizer.encode(text)) >= 1.0


@pytest.mark.parametrize(
    ("phrase", "text"), [("Ann", "Annabel and Anne"), ("art", "a start, an artist"), ("ada lovelace", "ada loved ada")]
)
def test_parts_of_words_and_phrases_are_none(
    tokenizer: Tokenizer, pieces: CTCTokenizer, phrase: str, text: str
) -> None:
    hotwords = Hotwords([Hotword(phrase)], tokenizer, pieces)
    assert bonus(hotwords.decoder_tree(None), tokenizer.encode(text)) == 0


def test_all_ways_to_write_a_phrase_have_one_bonus(tokenizer: Tokenizer, pieces: CTCTokenizer) -> None:
    """Though " bobby" has two tokens and " Bobby" one."""
    assert len(tokenizer.encode("bobby")) > len(tokenizer.encode("Bobby"))
    tree = Hotwords([Hotword("bobby")], tokenizer, pieces, unheard_token_bonus=1.0).decoder_tree(None)
    assert bonus(tree, tokenizer.encode("bobby")) == bonus(tree, tokenizer.encode("Bobby")) == 1.0


def test_token_bytes_spell_every_text(tokenizer: Tokenizer) -> None:
    text = "naïve café, 时置 ♪ $5"
    tokens = tokenizer.encode(text)
    assert b"".join(tokenizer.token_bytes[token] for token in tokens).decode() == " " + text


def frames_of(pieces: CTCTokenizer, *hypotheses: tuple[str, float]) -> torch.Tensor:
    """CTC log-probabilities `[J, C]` in which each text's pieces have the given value, every second frame a blank."""
    tokens = [(pieces.encode(text), value) for text, value in hypotheses]
    shortest = min(len(part) for part, _ in tokens)
    log_probs = torch.full((2 * max(len(part) for part, _ in tokens) + 1, pieces.vocab_size), -12.0)
    log_probs[:, pieces.blank] = -0.1
    for part, value in tokens:
        for i, token in enumerate(part):
            log_probs[2 * i + 1, token] = value
            log_probs[2 * i + 1, pieces.blank] = -9.0 if i < shortest else -0.5
    return log_probs


def test_ctc_search_finds_the_phrase_only_with_a_bonus(tokenizer: Tokenizer, pieces: CTCTokenizer) -> None:
    log_probs = frames_of(pieces, ("nathan", -0.5), ("nate", -1.5))
    tree = Hotwords([Hotword("Nate")], tokenizer, pieces, ctc_token_bonus=2.0).ctc_tree(log_probs.numpy())
    assert pieces.decode(ctc.prefix_search(log_probs, pieces.blank, None)) == "nathan"
    assert pieces.decode(ctc.prefix_search(log_probs, pieces.blank, None, hotwords=tree)) == "nate"


def test_only_what_ctc_may_have_heard_is_in_the_tree(tokenizer: Tokenizer, pieces: CTCTokenizer) -> None:
    log_probs = frames_of(pieces, ("nathan", -0.5), ("nate", -1.5)).numpy()
    hotwords = Hotwords([Hotword("Nate"), Hotword("Zarathustra")], tokenizer, pieces)
    tree = hotwords.decoder_tree(log_probs)
    assert bonus(tree, tokenizer.encode("Nate")) > 0
    assert bonus(tree, tokenizer.encode("Zarathustra")) == 0
    assert bonus(hotwords.decoder_tree(None), tokenizer.encode("Zarathustra")) > 0
    assert Hotwords([Hotword("Zarathustra")], tokenizer, pieces).decoder_tree(log_probs) is None


def test_what_ctc_cannot_say_is_left_to_the_decoder(tokenizer: Tokenizer, pieces: CTCTokenizer) -> None:
    log_probs = frames_of(pieces, ("nathan", -0.5)).numpy()
    hotwords = Hotwords([Hotword("千户")], tokenizer, pieces)
    assert hotwords.ctc_tree(log_probs) is None
    assert bonus(hotwords.decoder_tree(log_probs), tokenizer.encode("千户")) > 0


def ranked(tree: HotwordTree, tokens: list[int], vocabulary: int) -> float:
    """The bonus by which a search ranks a hypothesis with all tokens, each as likely as any other."""
    bias = RowBias([tree], torch.device("cpu"))
    added = 0.0
    for token in tokens:
        log_probs = torch.zeros(1, vocabulary)
        added = float(bias.added(log_probs)[0, token])
        bias.advance([0], [token])
    return added


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_a_name_counts_no_more_often_than_it_was_heard(
    tokenizer: Tokenizer, pieces: CTCTokenizer, weight: float
) -> None:
    once = frames_of(pieces, ("nathan", -0.1)).numpy()
    hotwords = Hotwords([Hotword("Nathan", weight)], tokenizer, pieces)
    trees = [hotwords.decoder_tree(np.concatenate([once] * times)) for times in (1, 2)]
    one, two, four = (tokenizer.encode(" ".join(["Nathan"] * times)) for times in (1, 2, 4))
    assert trees[0] is not None and trees[1] is not None
    alone = ranked(trees[0], one, tokenizer.eot)
    assert alone > 0
    assert [ranked(trees[0], text, tokenizer.eot) for text in (two, four)] == pytest.approx([alone] * 2)
    assert [ranked(trees[1], text, tokenizer.eot) for text in (two, four)] == pytest.approx([2 * alone] * 2)


def test_a_weight_beyond_the_strongest_adds_no_more(tokenizer: Tokenizer, pieces: CTCTokenizer) -> None:
    log_probs = frames_of(pieces, ("nathan", -0.1)).numpy()
    found = []
    for weight in (1.0, 2.0, 10.0):
        tree = Hotwords([Hotword("Nathan", weight)], tokenizer, pieces).decoder_tree(log_probs)
        found.append(bonus(tree, tokenizer.encode("Nathan")))
    assert found[0] < found[1] == found[2]


def drawled(word: int, blank: int, vocabulary: int) -> torch.Tensor:
    """Log-probabilities of a word of one piece that goes on for some frames, in each of which it may also pause."""
    log_probs = torch.full((8, vocabulary), -12.0)
    log_probs[:, word], log_probs[:, blank] = -0.1, -3.0
    log_probs[[0, -1], word], log_probs[[0, -1], blank] = -12.0, -0.1
    return log_probs


@pytest.mark.parametrize("weight", [1.0, 3.0, 10.0])
def test_ctc_search_writes_a_drawled_word_once(tokenizer: Tokenizer, pieces: CTCTokenizer, weight: float) -> None:
    (word,) = pieces.encode("she")
    log_probs = drawled(word, pieces.blank, pieces.vocab_size)
    tree = Hotwords([Hotword("She", weight)], tokenizer, pieces).ctc_tree(log_probs.numpy())
    assert tree is not None
    assert ctc.prefix_search(log_probs, pieces.blank, None, hotwords=tree) == [word]
    twice = torch.cat([log_probs, log_probs])
    tree = Hotwords([Hotword("She", weight)], tokenizer, pieces).ctc_tree(twice.numpy())
    assert ctc.prefix_search(twice, pieces.blank, None, hotwords=tree) == [word, word]


@pytest.mark.parametrize("weight", [1.0, 3.0, 10.0])
def test_a_published_model_s_pieces_write_a_drawled_name_once(weight: float) -> None:
    written = ["▁", "▁ann", "▁Ann"]
    pieces = Pieces(
        written, lambda text: [written.index(f"▁{text}")], lambda tokens: "".join(written[t] for t in tokens)
    )
    log_probs = drawled(2, len(written), len(written) + 1)
    tree = PieceHotwords([Hotword("Ann", weight)], pieces, len(written)).tree(log_probs.numpy())
    assert tree is not None
    assert ctc.prefix_search(log_probs, len(written), None, hotwords=tree) == [2]
    twice = torch.cat([log_probs, log_probs])
    tree = PieceHotwords([Hotword("Ann", weight)], pieces, len(written)).tree(twice.numpy())
    assert ctc.prefix_search(twice, len(written), None, hotwords=tree) == [2, 2]
