"""The n-gram model and the prefix search with it, against slow definitions."""

import itertools
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fun_asr.cli import main
from fun_asr.decoding import ctc
from fun_asr.decoding.language_model import BOUNDARY, NGramModel
from fun_asr.errors import CheckpointError
from fun_asr.training.language_model import read_sentences, train

RNG = np.random.default_rng(0)
SENTENCES = [RNG.integers(0, 4, RNG.integers(1, 9)).tolist() for _ in range(60)]
DISCOUNT = 0.7
BLANK = 4


def kneser_ney(context: tuple[int, ...], piece: int) -> float:
    """Interpolated Kneser-Ney from its definition: dictionaries and recursion."""
    counts: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for sentence in SENTENCES:
        stream = (BOUNDARY, *sentence, BOUNDARY)
        for n in range(1, 4):
            for i in range(len(stream) - n + 1):
                if n > 1 or i > 0:
                    counts[n][stream[i : i + n]] += 1

    def count(gram: tuple[int, ...]) -> float:
        if len(gram) == 3 or (len(gram) > 1 and gram[0] == BOUNDARY):
            return counts[len(gram)][gram]
        return sum(1 for longer in counts[len(gram) + 1] if longer[1:] == gram)

    def probability(context: tuple[int, ...], piece: int) -> float:
        pieces = [*range(4), BOUNDARY]
        found = {w: count((*context, w)) for w in pieces}
        total = sum(found.values())
        if not context:
            return max(found[piece] - DISCOUNT, 0) / total + DISCOUNT * len(pieces) / total / 1024
        if not total:
            return probability(context[1:], piece)
        left = DISCOUNT * sum(1 for c in found.values() if c) / total
        return max(found[piece] - DISCOUNT, 0) / total + left * probability(context[1:], piece)

    return probability(context, piece)


@pytest.fixture(scope="module")
def model() -> NGramModel:
    return train(SENTENCES, 3, {}, DISCOUNT)


@pytest.mark.parametrize("context", [(), (0,), (BOUNDARY,), (2, 1), (BOUNDARY, 3), (3, 3), (0, 1, 2, 2)])
def test_probabilities_are_kneser_neys(model: NGramModel, context: tuple[int, ...]) -> None:
    found = model.next(context)
    for piece in [*range(4), BOUNDARY]:
        assert found[piece] == pytest.approx(kneser_ney(context[-2:], piece), rel=1e-4), piece
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_pruned_and_saved_probabilities_still_sum_to_one(tmp_path: Path) -> None:
    pruned = train(SENTENCES, 4, {2: 2, 3: 3, 4: 3}, DISCOUNT)
    pruned.save(tmp_path / "lm.safetensors")
    loaded = NGramModel.load(tmp_path / "lm.safetensors")
    for context in itertools.product([0, 1, 2, 3, BOUNDARY], repeat=3):
        assert loaded.next(context).sum() == pytest.approx(1, abs=2e-3)
        np.testing.assert_allclose(loaded.next(context), pruned.next(context), atol=1e-3)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "lm.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"lm\.safetensors"):
        NGramModel.load(tmp_path / "lm.safetensors")


def test_wide_prefix_search_finds_the_best_transcript(model: NGramModel) -> None:
    """Among all transcripts: CTC's sum over alignments, the language model's product, the bonus."""
    torch.manual_seed(1)
    options = ctc.PrefixSearchOptions(beam_size=400, margin=100.0, least_probability=1e-9)
    for _ in range(5):
        log_probs = (2 * torch.randn(4, 5)).log_softmax(dim=-1)
        acoustic: dict[tuple[int, ...], float] = defaultdict(float)
        for path in itertools.product(range(5), repeat=4):
            merged = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK)
            acoustic[merged] += math.exp(sum(float(log_probs[j, symbol]) for j, symbol in enumerate(path)))

        def total(tokens: tuple[int, ...], acoustic: dict[tuple[int, ...], float] = acoustic) -> float:
            stream = (BOUNDARY, *tokens, BOUNDARY)
            language = sum(math.log(kneser_ney(stream[max(0, i - 2) : i], stream[i])) for i in range(1, len(stream)))
            return math.log(acoustic[tokens]) + options.language_weight * language + options.piece_bonus * len(tokens)

        assert tuple(ctc.prefix_search(log_probs, BLANK, model, options)) == max(acoustic, key=total)


def test_training_text_leaves_development_words_out(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One, two three four five six!\nSeven eight nine.\nIt costs $5.\n", "utf-8")
    (tmp_path / "dev.jsonl").write_text('{"text": "zero one two three four five"}\n', "utf-8")
    assert list(read_sentences([tmp_path / "text.txt"], [tmp_path / "dev.jsonl"])) == [
        "seven eight nine",
        "it costs five dollars",
    ]
    assert len(list(read_sentences([tmp_path / "text.txt"]))) == 3


def test_command_puts_the_model_where_ctc_decoding_uses_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    import shutil

    from fun_asr import load_model

    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    (tmp_path / "text.txt").write_text("how vexing is that\n" * 9, "utf-8")
    samples = np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32)
    before = load_model(folder).transcribe_samples(samples, decoding="ctc").text
    arguments = ["train-lm", str(tmp_path / "text.txt"), "--model", str(folder), "--least_counts", "1,1,1,1"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert load_model(folder).transcribe_samples(samples, decoding="ctc").text != before
