"""Batched, cached search against a plain one that recomputes everything for one utterance at a time."""

import dataclasses
import math

import pytest
import torch

from fun_asr.decoding import ctc
from fun_asr.decoding.generate import GenerateOptions, Hypothesis, generate
from fun_asr.decoding.hotwords import START, HotwordTree, Place
from fun_asr.decoding.search import SearchOptions, search
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import EncoderConfig
from fun_asr.models.fun_asr.config import CTCConfig, ModelConfig
from fun_asr.models.fun_asr.network import FunASR

VOCABULARY, EOT, SOT = 40, 30, 31
LANGUAGES = {"en": 32, "de": 33, "zh": 34}
CONFIG = ModelConfig(
    encoder=EncoderConfig(n_mels=8, dim=16, num_layers=1, num_heads=2, ffn_dim=32, conv_dim=8, max_frames=200),
    ctc=CTCConfig(vocab_size=8, hidden_dim=16),
    decoder=DecoderConfig(
        vocab_size=VOCABULARY, dim=16, num_layers=2, num_heads=2, ffn_dim=32, num_experts=4, expert_dim=8, max_tokens=24
    ),
)
NO_HOTWORDS = HotwordTree([], continues=frozenset())


class TinyTokenizer:
    """Only what the search asks of a tokenizer."""

    sot, eot = SOT, EOT
    languages = LANGUAGES

    def prompt(self, language: str) -> list[int]:
        return [SOT, LANGUAGES[language], 35, 36]


@pytest.fixture(scope="module")
def model() -> FunASR:
    torch.manual_seed(3)
    model = FunASR(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
        model.decoder.embedding.weight.mul_(0.3)
    return model


@pytest.fixture(scope="module")
def encoded(model: FunASR) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    lengths = torch.tensor([90, 40, 66, 12, 78])
    features = torch.randn(5, 8, 90)
    for row, length in zip(features, lengths.tolist(), strict=True):
        row[:, length:] = 0
    with torch.no_grad():
        return model.encode(features, lengths)


def log_probs(model: FunASR, memory: torch.Tensor, tokens: list[int], banned: set[int]) -> torch.Tensor:
    with torch.no_grad():
        hidden = model.decoder(torch.tensor([tokens]), memory)
        logits = model.decoder.embedding.logits(hidden[0, -1])
    blocked = [t for t in range(VOCABULARY) if t > EOT or t in banned]
    logits[blocked] = -math.inf
    return logits.log_softmax(dim=-1)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a plain search found."""

    tokens: list[int]
    score: float
    """Mean log-probability."""
    bonus: float
    """The hotwords'."""
    rows: int
    """Hypotheses that were gone on with, the first step left out."""


def plain_search(
    model: FunASR,
    memory: torch.Tensor,
    width: int,
    limit: int,
    margin: float = math.inf,
    hotwords: HotwordTree = NO_HOTWORDS,
) -> Found:
    """Beam search written for clarity: nothing cached, nothing batched."""
    prompt = TinyTokenizer().prompt("en")
    beams: list[tuple[float, list[int], float, Place]] = [(0.0, [], 0.0, START)]
    finished: list[tuple[float, list[int], float]] = []
    best_rank, best_score, rows = -math.inf, -math.inf, 0
    for length in range(1, limit + 1):
        candidates = []
        for score, tokens, kept, place in beams:
            scores = log_probs(model, memory, prompt + tokens, set()).tolist()
            for token, value in enumerate(scores):
                plausible = value >= max(scores) - hotwords.margin
                gained, after = hotwords.move(place, token, plausible=plausible)
                bonus = kept + gained + hotwords.pending(after)
                if value > -math.inf:
                    candidates.append((score + value + bonus, score + value, tokens, token, kept + gained, after))
        candidates.sort(key=lambda c: -c[0])
        beams, ranks = [], []
        for number, (rank, score, tokens, token, kept, place) in enumerate(candidates[: 2 * width]):
            if token == EOT:
                if number < width:
                    finished.append((rank / length, tokens, rank - score))
                    best_rank, best_score = max(best_rank, rank), max(best_score, score)
            elif len(beams) < width:
                beams.append((score, [*tokens, token], kept, place))
                ranks.append(rank)
        if beams:
            highest = max(ranks) - margin, max(beam[0] for beam in beams) - margin
            mean = max((found[0] for found in finished), default=-math.inf)
            beams = [
                beam
                for beam, rank in zip(beams, ranks, strict=True)
                if (rank >= highest[0] or beam[0] >= highest[1])
                and (rank >= best_rank - margin or beam[0] >= best_score - margin or rank / length > mean)
            ]
        better = math.isfinite(margin) and max(ranks, default=-math.inf) / length > max(
            (f[0] for f in finished), default=0
        )
        if (len(finished) >= width and not better) or not beams:
            break
        rows += len(beams) if length < limit else 0
    complete = finished or [
        ((score + kept + hotwords.pending(place)) / limit, tokens, kept + hotwords.pending(place))
        for score, tokens, kept, place in beams
    ]
    rank, tokens, bonus = max(complete, key=lambda c: c[0])
    return Found(tokens, rank - bonus / (len(tokens) + (1 if finished else 0)), bonus, rows)


def limit_of(frames: int, rate: float) -> int:
    return min(int(8 + rate * frames / 50), CONFIG.decoder.max_tokens - 4)


@pytest.mark.parametrize(("width", "margin"), [(1, math.inf), (2, math.inf), (5, math.inf), (3, 1.5), (5, 2.5)])
def test_search_equals_the_plain_one(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor], width: int, margin: float
) -> None:
    memory, lengths = encoded
    options = GenerateOptions(beam_size=width, margin=margin)
    hypotheses = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, options)
    lengths_seen = set()
    for i, length in enumerate(lengths.tolist()):
        found = plain_search(model, memory[i : i + 1, :length], width, limit_of(length, 25), margin)
        assert hypotheses[i].tokens == found.tokens
        assert hypotheses[i].score == pytest.approx(found.score, abs=1e-4)
        lengths_seen.add(len(found.tokens))
    assert len(lengths_seen) > 1, "the utterances must end at different steps for rows to be dropped on the way"


class Sentences:
    """Says 0 and then 1 again and again; after each 1 the text may end, as it surely does after the last."""

    ends = frozenset((2,))
    bias = None

    def __init__(self, sentences: int) -> None:
        self._last = 2 * sentences
        self._length = 0

    def allowed(self, logits: torch.Tensor, *, first: bool) -> torch.Tensor:
        return logits

    def keep(self, kept: list[int]) -> list[int]:
        return kept

    def extend(self, rows: list[int], tokens: list[int], counts: list[int]) -> torch.Tensor:
        self._length += 1
        return torch.stack([self.after(token) for token in tokens])

    def after(self, token: int) -> torch.Tensor:
        ends = 0.98 if self._length == self._last else 0.05 if token == 1 else 0.001
        rest = 1 - ends
        return torch.tensor([rest * (0.8 if token == 1 else 0.2), rest * (0.2 if token == 1 else 0.8), ends]).log()


def test_the_end_of_the_first_sentence_is_not_the_end_of_the_text() -> None:
    steps = Sentences(20)
    best, *_ = search(steps, steps.after(1)[None], [100], SearchOptions(beam_size=3, margin=2.0))[0]
    # The sum of one sentence is higher by far.
    assert best.tokens == [0, 1] * 20 and best.score < math.log(0.8**2 * 0.05) - 2


def test_a_margin_spares_the_decoder_rows(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, lengths = encoded
    rows = []
    step = type(model.decoder).step
    monkeypatch.setattr(
        type(model.decoder), "step", lambda self, tokens, cache: rows.append(len(tokens)) or step(self, tokens, cache)
    )
    for margin in (math.inf, 1.5):
        rows.clear()
        generate(
            model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, GenerateOptions(beam_size=3, margin=margin)
        )
        expected = sum(
            plain_search(model, memory[i : i + 1, :n], 3, limit_of(n, 25), margin).rows
            for i, n in enumerate(lengths.tolist())
        )
        assert sum(rows[1:]) == expected


def test_suppressed_tokens_are_never_written(model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor]) -> None:
    memory, lengths = encoded
    plain = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5)
    used = {token for hypothesis in plain for token in hypothesis.tokens}
    banned = tuple(sorted(used)[:3])
    # Published lists name special tokens too.
    options = GenerateOptions(suppress=(*banned, TinyTokenizer().eot + 1), suppress_first=(TinyTokenizer().eot + 2,))
    again = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, options)
    assert used
    assert not {token for hypothesis in again for token in hypothesis.tokens} & set(banned)
    firsts = {hypothesis.tokens[0] for hypothesis in plain if hypothesis.tokens}
    options = GenerateOptions(suppress_first=tuple(firsts))
    again = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, options)
    assert not {hypothesis.tokens[0] for hypothesis in again if hypothesis.tokens} & firsts


def test_detected_language_is_the_likeliest_after_the_first_token(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor]
) -> None:
    memory, lengths = encoded
    languages = [None, "de", None, None, "zh"]
    hypotheses = generate(model.decoder, memory, lengths, TinyTokenizer(), languages)
    for i, length in enumerate(lengths.tolist()):
        if languages[i] is not None:
            assert (hypotheses[i].language, hypotheses[i].language_probability) == (languages[i], None)
            continue
        with torch.no_grad():
            hidden = model.decoder(torch.tensor([[SOT]]), memory[i : i + 1, :length])
            logits = model.decoder.embedding.logits(hidden[0, -1])
        probabilities = logits[list(LANGUAGES.values())].softmax(dim=-1)
        assert hypotheses[i].language == list(LANGUAGES)[int(probabilities.argmax())]
        assert hypotheses[i].language_probability == pytest.approx(float(probabilities.max()), abs=1e-5)


def test_given_and_detected_language_give_the_same_text(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor]
) -> None:
    memory, lengths = encoded
    detected = generate(model.decoder, memory, lengths, TinyTokenizer(), [None] * 5)
    given = generate(model.decoder, memory, lengths, TinyTokenizer(), [h.language for h in detected])
    assert [h.tokens for h in detected] == [h.tokens for h in given]


def test_ctc_greedy_merges_repeats_and_drops_blanks_within_each_length() -> None:
    path = torch.tensor([[1, 1, 3, 1, 2, 2, 3, 3], [0, 3, 3, 2, 1, 1, 1, 1]])
    scores = torch.nn.functional.one_hot(path, 4).float().log()
    assert ctc.greedy(scores, torch.tensor([8, 4]), blank=3) == [[1, 1, 2], [0, 2]]


@pytest.mark.parametrize("width", [1, 3])
def test_log_probs_are_those_of_the_tokens(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor], width: int
) -> None:
    memory, lengths = encoded
    options = GenerateOptions(beam_size=width)
    hypotheses = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, options)
    for i, length in enumerate(lengths.tolist()):
        tokens = hypotheses[i].tokens
        written = TinyTokenizer().prompt("en")
        expected = []
        for token in tokens:
            expected.append(float(log_probs(model, memory[i : i + 1, :length], written, set())[token]))
            written.append(token)
        assert hypotheses[i].log_probs == pytest.approx(expected, abs=1e-3)


def test_no_sequence_is_written_twice_where_that_is_not_allowed(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor]
) -> None:
    memory, lengths = encoded

    def repeats(n: int, options: GenerateOptions) -> int:
        count = 0
        for hypothesis in generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, options):
            grams = [tuple(hypothesis.tokens[i : i + n]) for i in range(len(hypothesis.tokens) - n + 1)]
            count += len(grams) - len(set(grams))
        return count

    for n in (1, 2):
        assert repeats(n, GenerateOptions()) > 0, "the model should repeat itself when it may"
        assert repeats(n, GenerateOptions(no_repeat_ngram=n)) == 0


def phrases_near(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor], margin: float
) -> tuple[list[list[int]], HotwordTree]:
    """Pairs of tokens that the search passes over without a bonus, and a tree of them."""
    memory, lengths = encoded
    options = GenerateOptions(beam_size=5)
    found = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, options)
    written = {tuple(h.tokens[i : i + 2]) for h in found for i in range(len(h.tokens) - 1)}
    others = {tuple(o.tokens[i : i + 2]) for h in found for o in h.others for i in range(len(o.tokens) - 1)}
    phrases = [list(pair) for pair in sorted(others - written)]
    assert phrases
    continues = frozenset(range(0, EOT, 3))
    return phrases, HotwordTree([(p, 1.5) for p in phrases], continues=continues, margin=margin)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("margin", [1.0, math.inf])
def test_biased_search_equals_the_plain_one_and_finds_the_phrases(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor], width: int, margin: float
) -> None:
    memory, lengths = encoded
    phrases, tree = phrases_near(model, encoded, margin)

    def count(hypotheses: list[Hypothesis]) -> int:
        return sum(h.tokens[i : i + 2] in phrases for h in hypotheses for i in range(len(h.tokens) - 1))

    unbiased = GenerateOptions(beam_size=width)
    plain = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, unbiased)
    # The third utterance has none.
    trees = [tree, tree, None, tree, tree]
    for search_margin in (math.inf, 1.5):
        options = GenerateOptions(beam_size=width, margin=search_margin, hotwords=trees)
        hypotheses = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, options)
        assert count(hypotheses) > count(plain)
        for i, length in enumerate(lengths.tolist()):
            part = memory[i : i + 1, :length]
            found = plain_search(
                model, part, width, limit_of(length, 25), search_margin, hotwords=trees[i] or NO_HOTWORDS
            )
            assert hypotheses[i].tokens == found.tokens
            assert hypotheses[i].score == pytest.approx(found.score, abs=1e-4)
            assert width == 1 or hypotheses[i].bonus == pytest.approx(found.bonus, abs=1e-4)
            single = dataclasses.replace(options, hotwords=trees[i : i + 1])
            (alone,) = generate(model.decoder, part, lengths[i : i + 1], TinyTokenizer(), ["en"], single)
            assert alone.tokens == found.tokens


@pytest.mark.parametrize("width", [1, 3])
def test_a_bonus_leaves_the_log_probs_the_models_own(
    model: FunASR, encoded: tuple[torch.Tensor, torch.Tensor], width: int
) -> None:
    memory, lengths = encoded
    _, tree = phrases_near(model, encoded, math.inf)
    options = GenerateOptions(beam_size=width, hotwords=[tree] * 5)
    hypotheses = generate(model.decoder, memory, lengths, TinyTokenizer(), ["en"] * 5, options)
    for i, length in enumerate(lengths.tolist()):
        for hypothesis in (hypotheses[i], *hypotheses[i].others):
            written = TinyTokenizer().prompt("en")
            expected = []
            for token in [*hypothesis.tokens, EOT]:
                expected.append(float(log_probs(model, memory[i : i + 1, :length], written, set())[token]))
                written.append(token)
            assert hypothesis.log_probs == pytest.approx(expected[:-1], abs=1e-3)
            if len(hypothesis.tokens) < limit_of(length, 25):
                assert hypothesis.score == pytest.approx(sum(expected) / len(expected), abs=1e-3)
