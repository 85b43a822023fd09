"""The CTC head's losses: intermediate CTC and the consistency of two views."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch import Tensor

from fun_asr.configuration import load_yaml
from fun_asr.errors import ConfigError
from fun_asr.models.fun_asr.config import CTCConfig
from fun_asr.models.fun_asr.ctc import CTCHead
from fun_asr.training.config import TrainConfig
from fun_asr.training.ctc_losses import consistency, ctc_loss_of, head_loss
from fun_asr.training.data import read_manifest
from fun_asr.training.losses import joint_loss
from fun_asr.training.trainer import Trainer
from fun_asr.weights.directory import load_stored

LABELS = [torch.tensor([1, 4, 4]), torch.tensor([2])]


@pytest.fixture
def head() -> CTCHead:
    torch.manual_seed(0)
    return CTCHead(CTCConfig(vocab_size=6, hidden_dim=16, num_heads=2, num_blocks=3, block_kernel=3), 8).eval()


def distributions(frames: int, seed: int, utterances: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(utterances, frames, 6, generator=generator)).log_softmax(dim=-1)


def probability(log_probs: Tensor, label: list[int], blank: int) -> float:
    """Of a label, by every path there is."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        collapsed = [token for token, _ in itertools.groupby(path) if token != blank]
        if collapsed == label:
            total += float(log_probs[torch.arange(len(path)), list(path)].sum().exp())
    return total


def test_ctc_is_the_probability_of_all_paths_a_token() -> None:
    log_probs = distributions(5, 1)
    paths = [probability(log_probs[0], [1, 4, 4], 5), probability(log_probs[1, :3], [2], 5)]
    expected = -sum(np.log(paths)) / 4
    assert float(ctc_loss_of(log_probs, torch.tensor([5, 3]), LABELS, 5)) == pytest.approx(expected, rel=1e-5)


def test_an_utterance_too_short_for_its_labels_is_left_out() -> None:
    log_probs = distributions(5, 1)
    # Two equal tokens need a blank between them: four frames at least.
    short = float(ctc_loss_of(log_probs, torch.tensor([3, 3]), LABELS, 5))
    assert short == pytest.approx(-np.log(probability(log_probs[1, :3], [2], 5)) / 4, rel=1e-5)


def test_consistency_is_the_mean_of_both_kl_divergences_over_valid_frames() -> None:
    one, other = distributions(7, 2), distributions(7, 3)
    p, q = one.exp(), other.exp()
    frames = ((p * (one - other)).sum(-1) + (q * (other - one)).sum(-1)) / 2
    expected = float(frames[0, :7].sum() + frames[1, :4].sum())
    assert float(consistency(one, other, torch.tensor([7, 4]))) == pytest.approx(expected, rel=1e-5)
    assert float(consistency(one, one, torch.tensor([7, 4]))) == pytest.approx(0.0, abs=1e-6)


def test_each_view_learns_from_the_other_as_it_is() -> None:
    logits = [torch.randn(1, 3, 6, requires_grad=True) for _ in range(2)]
    a, b = (x.log_softmax(dim=-1) for x in logits)
    consistency(a, b, torch.tensor([3])).backward()
    for own, other, x in ((a, b, logits[0]), (b, a, logits[1])):
        assert x.grad is not None
        # The gradient of the cross-entropy against a fixed distribution.
        torch.testing.assert_close(x.grad, (own.exp() - other.exp()).detach() / 2)


def test_the_head_says_after_its_last_block_what_it_says(head: CTCHead) -> None:
    encoded, lengths = torch.randn(2, 12, 8), torch.tensor([12, 9])
    encoded[1, 9:] = 0
    with torch.no_grad():
        each, counts = head.after_blocks(encoded, lengths)
        log_probs, expected_counts = head(encoded, lengths)
    assert len(each) == 3
    assert torch.equal(each[-1], log_probs)
    assert torch.equal(counts, expected_counts)
    without = CTCHead(CTCConfig(vocab_size=6, hidden_dim=16, num_heads=2, num_blocks=0), 8).eval()
    with torch.no_grad():
        (only,), _ = without.after_blocks(encoded, lengths)
        assert torch.equal(only, without(encoded, lengths)[0])


def test_intermediate_and_consistency_are_weighed_as_published(head: CTCHead) -> None:
    encoded, lengths = torch.randn(4, 12, 8), torch.tensor([12, 10, 12, 10])
    labels = LABELS * 2
    with torch.no_grad():
        (first, second, last), counts = head.after_blocks(encoded, lengths)
        plain = ctc_loss_of(last, counts, labels, 5)
        earlier = (ctc_loss_of(first, counts, labels, 5) + ctc_loss_of(second, counts, labels, 5)) / 2
        distance = consistency(last[:2], last[2:], counts[:2])
        found = head_loss(head, encoded, lengths, labels, intermediate_weight=0.3, consistency_weight=0.2, views=2)
        alone = head_loss(head, encoded, lengths, labels)
        one_view = head_loss(head, encoded, lengths, labels, consistency_weight=0.2)
    assert float(alone) == pytest.approx(float(plain), rel=1e-6)
    assert float(one_view) == pytest.approx(float(plain), rel=1e-6)
    expected = 0.7 * plain + 0.3 * earlier + 0.2 * distance / 4
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for i, text in enumerate(("one two", "three", "four five six", "seven")):
        seconds = 0.9 + 0.2 * i
        time = np.arange(int(seconds * 16_000)) / 16_000
        wave = 0.2 * np.sin(2 * np.pi * (200 + 150 * i) * time) + 0.01 * rng.normal(size=len(time))
        soundfile.write(tmp_path / f"{i}.wav", wave.astype(np.float32), 16_000)
        rows.append({"audio_filepath": f"{i}.wav", "duration": seconds, "text": text, "written": text})
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def trainer_of(folder: Path, model: Path, **changes: object) -> Trainer:
    values = {
        "init": str(model), "output_dir": "run", "train": [{"manifest": "train.jsonl"}], "steps": 3,
        "batch_seconds": 6.0, "average": 1, "augment": {"speeds": [1.0], "time_masks": 0}, **changes,
    }  # fmt: skip
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values))
    return Trainer(load_yaml(TrainConfig, path), folder)


def test_two_views_are_the_same_sound_masked_twice(corpus: Path, tiny_model_dir: Path) -> None:
    trainer = trainer_of(corpus, tiny_model_dir, ctc_consistency_weight=0.2)
    rows = read_manifest(corpus / "train.jsonl")
    batch = trainer.collate(rows, np.random.default_rng(0))
    assert batch is not None
    assert batch.views == 2
    assert len(batch.features) == 2 * len(batch.tokens_BS) == 8
    one, other = batch.features[:4], batch.features[4:]
    same = (one == other).float().mean()
    assert 0.5 < float(same) < 1.0, "masks of a few bins differ"
    assert batch.lengths_B[:4].equal(batch.lengths_B[4:])
    measured = trainer.collate_dev(rows, np.random.default_rng(0))
    assert measured is not None
    assert measured.views == 1


def test_the_decoder_learns_from_one_view(corpus: Path, tiny_model_dir: Path) -> None:
    # Without masks both views are one: the loss must be that of a single view, and consistency add nothing.
    plain_augment = {"speeds": [1.0], "freq_masks": 0, "time_masks": 0, "noise_probability": 0.0, "gain_db": 0.0,
                     "telephone_probability": 0.0}  # fmt: skip
    found = []
    for weight in (0.0, 0.2):
        trainer = trainer_of(corpus, tiny_model_dir, ctc_consistency_weight=weight, augment=plain_augment)
        batch = trainer.collate(read_manifest(corpus / "train.jsonl"), np.random.default_rng(0))
        assert batch is not None
        with torch.no_grad():
            losses = joint_loss(trainer.model.eval(), batch, ctc_weight=0.3, consistency_weight=weight)
        found.append((float(losses.decoder), float(losses.ctc)))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_the_head_alone_is_trained_on_both(corpus: Path, tiny_model_dir: Path) -> None:
    final = trainer_of(
        corpus, tiny_model_dir, ctc_weight=1.0, ctc_consistency_weight=0.2, ctc_intermediate_weight=0.3,
        freeze=["encoder.", "decoder."], train=[{"manifest": "train.jsonl", "targets": "ctc"}],
    ).run()  # fmt: skip
    before, after = load_stored(tiny_model_dir), load_stored(final)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"ctc"}
    assert all(bool(tensor.isfinite().all()) for tensor in after.values())


@pytest.mark.parametrize("changes", [{"ctc_intermediate_weight": 1.0}, {"ctc_consistency_weight": -0.1}])
def test_impossible_weights_are_refused(corpus: Path, tiny_model_dir: Path, changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="ctc_intermediate_weight"):
        trainer_of(corpus, tiny_model_dir, **changes)
