"""Distillation: the teacher's cache, the losses that hold a student to it, and training on both."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fun_asr.audio.features import log_mel
from fun_asr.decoding.generate import GenerateOptions, generate
from fun_asr.decoding.guard import cut_loops
from fun_asr.errors import CheckpointError, ManifestError
from fun_asr.models.fun_asr.load import load_config
from fun_asr.training.data import IGNORED, Batch, Utterance, load_wave, plan_epoch, read_manifest
from fun_asr.training.losses import frames_loss, joint_loss, tokens_loss
from fun_asr.training.teacher import INDEX_FILE, Teacher, TeachingCache, place, windows
from fun_asr.training.teaching import load_teaching
from fun_asr.training.trainer import Trainer
from fun_asr.weights.directory import load_stored, save_model
from fun_asr.weights.precision import ComputeType
from tests.training.runs import WORDS, make_corpus, trainer_of, whole_and_resumed, write_config

LANGUAGES = ["en", "de", "en", "zh", "de", "en"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path, LANGUAGES, shortest=0.61, mirrored=False)


def teach(model: Path, utterances: list[Utterance], folder: Path, *, padded: bool = False, **options: bool) -> Path:
    """A cache of what the model says of the utterances; its manifest."""
    teacher = Teacher(model, ComputeType.FLOAT32, padded=padded, top=1000)
    cache = TeachingCache(folder)
    answers = teacher.teach(utterances, **options)
    cache.add((u, *answer) for u, answer in zip(utterances, answers, strict=True) if answer is not None)
    return cache.index


def batch_of(trainer: Trainer, utterances: list[Utterance]) -> Batch:
    batch = trainer.collate_dev(utterances, np.random.default_rng(0))
    assert batch is not None
    return batch


@pytest.fixture
def other_model_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """The tiny model with other weights."""
    torch.manual_seed(5)
    state = {n: t + 0.1 * torch.randn_like(t) for n, t in load_stored(tiny_model_dir).items()}
    companions = [tiny_model_dir / "tokenizer.json", tiny_model_dir / "ctc.model"]
    save_model(tmp_path / "other", load_config(tiny_model_dir), state, companions, int8=False)
    return tmp_path / "other"


def test_a_student_that_says_what_its_teacher_says_has_no_loss(
    corpus: Path, tiny_model_dir: Path, other_model_dir: Path
) -> None:
    index = teach(tiny_model_dir, read_manifest(corpus / "train.jsonl"), corpus / "cache")
    rows = read_manifest(index)
    trainer = trainer_of(write_config(corpus, tiny_model_dir, index))
    other = trainer_of(write_config(corpus, other_model_dir, index))
    with torch.no_grad():
        same = joint_loss(trainer.model.eval(), batch_of(trainer, rows), ctc_weight=0.0)
        differing = joint_loss(other.model.eval(), batch_of(other, rows), ctc_weight=0.0)
    assert 0 <= float(same.frames) < 1e-5, "float16 is all that is lost"
    assert abs(float(same.tokens)) < 1e-5
    assert float(differing.frames) > 0.01
    assert float(differing.tokens) > 0.001


def test_padded_teacher_hears_thirty_seconds_and_keeps_what_is_of_the_utterance(
    corpus: Path, tiny_model_dir: Path
) -> None:
    rows = read_manifest(corpus / "train.jsonl")[:2]
    taught = read_manifest(teach(tiny_model_dir, rows, corpus / "cache", padded=True))
    teacher = Teacher(tiny_model_dir, ComputeType.FLOAT32)
    for row in taught:
        wave = load_wave(row)
        window = np.zeros(30 * 16_000, np.float32)
        window[: len(wave)] = wave
        assert row.teaching is not None
        kept = load_teaching(row.teaching)
        with torch.no_grad():
            encoded, lengths_B = teacher.network.encode(*log_mel([window]))
            tokens = teacher.tokenizer.prompt(row.language) + teacher.tokenizer.encode(row.written)
            hidden = teacher.network.decoder(torch.tensor([tokens]), encoded)
            log_probs = teacher.network.decoder.embedding.logits(hidden)[0].log_softmax(-1)
        assert lengths_B.tolist() == [1500]
        assert len(kept.frames_LD) == -(-len(wave) // 320)
        torch.testing.assert_close(kept.frames_LD.float(), encoded[0, : len(kept.frames_LD)], rtol=1e-3, atol=1e-3)
        assert kept.tokens_S.tolist() == tokens
        asked = [0, *range(3, len(tokens))]
        expected = log_probs[asked].gather(1, kept.ids_PK.long())
        torch.testing.assert_close(kept.log_probs_PK, expected, rtol=1e-4, atol=1e-4)


def test_tokens_loss_is_the_kl_divergence_and_lumps_what_was_not_kept() -> None:
    torch.manual_seed(0)
    teacher, student = 3 * torch.randn(7, 40, dtype=torch.float64), torch.randn(7, 40, dtype=torch.float64)
    p, q = teacher.softmax(-1), student.softmax(-1)
    whole = float((p * (p / q).log()).sum(-1).mean())
    top = p.log().float().topk(40)
    assert float(tokens_loss(student.float(), top.indices, top.values)) == pytest.approx(whole, abs=1e-4)
    kept = p.topk(5)
    rest = 1 - kept.values.sum(-1), 1 - q.gather(1, kept.indices).sum(-1)
    lumped = (kept.values * (kept.values / q.gather(1, kept.indices)).log()).sum(-1) + rest[0] * (
        rest[0] / rest[1]
    ).log()
    loss = float(tokens_loss(student.float(), kept.indices, kept.values.log().float()))
    assert loss == pytest.approx(float(lumped.mean()), abs=1e-5)
    assert 0 < loss < whole
    same = float(tokens_loss(teacher.float(), kept.indices, kept.values.log().float()))
    assert same == pytest.approx(0, abs=1e-6)


def test_frames_loss_is_the_part_of_the_variance_that_is_missed_in_valid_frames() -> None:
    torch.manual_seed(0)
    scale = torch.tensor([1.0, 4.0, 2.0])
    frames = (torch.randn(2, 50, 3) * scale + 4).half()
    lengths = torch.tensor([50, 30])
    frames[1, 30:] = 0
    valid = torch.cat([frames[0], frames[1, :30]]).float()
    mean = valid.mean(dim=0).expand(2, 50, 3)
    assert float(frames_loss(mean, lengths, frames)) == pytest.approx(1.0, abs=1e-4)
    # Off by a tenth of each channel's deviation: small channels count as much as large ones.
    noisy = frames.float() + 0.1 * valid.std(dim=0, correction=0)
    assert float(frames_loss(noisy, lengths, frames)) == pytest.approx(0.01, rel=1e-3)
    padded = torch.cat([noisy, torch.randn(2, 9, 3)], dim=1)
    longer = torch.cat([frames, torch.zeros(2, 9, 3).half()], dim=1)
    assert float(frames_loss(padded, lengths, longer)) == pytest.approx(float(frames_loss(noisy, lengths, frames)))


def test_labelled_and_taught_utterances_share_a_batch(corpus: Path, tiny_model_dir: Path) -> None:
    rows = read_manifest(corpus / "train.jsonl")
    taught = read_manifest(teach(tiny_model_dir, rows[:3], corpus / "cache"))
    trainer = trainer_of(write_config(corpus, tiny_model_dir, corpus / "train.jsonl"))
    mixed = batch_of(trainer, [taught[0], rows[3], dataclasses.replace(taught[2], trains_decoder=False), rows[4]])
    assert mixed.teaching is not None
    assert mixed.teaching.rows_B.tolist() == [True, False, True, False]
    assert mixed.teaching.positions_BS.any(dim=1).tolist() == [True, False, True, False]
    assert (mixed.labels_BS != IGNORED).any(dim=1).tolist() == [True, True, False, True]
    with torch.no_grad():
        losses = joint_loss(trainer.model.eval(), mixed, ctc_weight=0.0)
        plain = joint_loss(trainer.model, batch_of(trainer, [rows[0], rows[3], rows[4]]), ctc_weight=0.0)
    assert abs(float(losses.tokens)) < 1e-5
    assert float(losses.decoder) == pytest.approx(float(plain.decoder), rel=1e-4)


def test_teachings_are_asked_once(corpus: Path, tiny_model_dir: Path) -> None:
    rows = read_manifest(corpus / "train.jsonl")
    teach(tiny_model_dir, rows[:2], corpus / "cache")
    again = TeachingCache(corpus / "cache")
    assert again.done == {place(row) for row in rows[:2]}
    index = teach(tiny_model_dir, rows[2:3], corpus / "cache")
    taught = read_manifest(index)
    assert [u.written for u in taught] == WORDS[:3]
    assert len({u.teaching for u in taught}) == 3
    assert all(np.array_equal(load_wave(a), load_wave(b)) for a, b in zip(taught, rows, strict=False))


def test_windows_join_utterances_of_a_language(corpus: Path, tiny_model_dir: Path) -> None:
    rows = read_manifest(corpus / "train.jsonl")
    found = windows(rows, 3.0, np.random.default_rng(0))
    assert all(u.duration <= 3.0 for u in found)
    assert any(u.parts for u in found)
    parts = [part for u in found for part in (u.parts or (u,))]
    assert sorted(p.text for p in parts) == sorted(WORDS)
    assert all(part.language == u.language for u in found for part in u.parts)
    assert windows(rows, 3.0, np.random.default_rng(0)) == found
    assert len(windows(rows, 0.0, np.random.default_rng(0))) == len(rows)
    taught = read_manifest(teach(tiny_model_dir, found, corpus / "cache"))
    assert [place(u) for u in taught] == [place(u) for u in found]
    assert all(np.array_equal(load_wave(a), load_wave(b)) for a, b in zip(taught, found, strict=True))
    assert all(len(batch) == len(set(map(id, batch))) for batch in plan_epoch([(taught, 1)], 60, 0, 0, joined=1.0))
    assert sum(len(batch) for batch in plan_epoch([(taught, 1)], 60, 0, 0, joined=1.0)) == len(taught), "no more joins"


def test_without_a_text_the_teacher_writes_its_own(corpus: Path, tiny_model_dir: Path) -> None:
    rows = [dataclasses.replace(row, text="", written="") for row in read_manifest(corpus / "train.jsonl")]
    teacher = Teacher(tiny_model_dir, ComputeType.FLOAT32, padded=False, top=5)
    network, tokenizer = teacher.network, teacher.tokenizer
    with torch.no_grad():
        network.decoder.embedding.weight[tokenizer.eot] *= 5.0  # or no text would come to its end
    answers = teacher.teach(rows)
    for row, answer in zip(rows, answers, strict=True):
        encoded, lengths_B = network.encode(*log_mel([load_wave(row)]))
        options = GenerateOptions(suppress=tokenizer.captions)
        (greedy,) = generate(network.decoder, encoded, lengths_B, tokenizer, [row.language], options)
        if answer is None:
            assert not greedy.complete or cut_loops(greedy.tokens)[1] or not tokenizer.decode(greedy.tokens)
        else:
            text, teaching = answer
            assert text == tokenizer.decode(greedy.tokens)
            assert teaching.tokens_S.tolist() == tokenizer.prompt(row.language) + tokenizer.encode(text)
            assert teaching.ids_PK.shape[1] == 5
    assert any(answer is not None for answer in answers)


def test_frames_alone_leave_the_decoder_and_the_ctc_head_alone(
    corpus: Path, tiny_model_dir: Path, other_model_dir: Path
) -> None:
    rows = [dataclasses.replace(row, text="", written="") for row in read_manifest(corpus / "train.jsonl")]
    index = teach(other_model_dir, rows, corpus / "cache", frames_only=True)
    final = trainer_of(write_config(corpus, tiny_model_dir, index, targets="teacher", steps=3)).run()
    before, after = load_stored(tiny_model_dir), load_stored(final)
    moved = {n.split(".")[0] for n in before if "balance" not in n and not torch.equal(before[n], after[n])}
    assert moved == {"encoder"}


def test_taught_utterances_keep_their_speed(corpus: Path, tiny_model_dir: Path) -> None:
    rows = read_manifest(corpus / "train.jsonl")
    taught = read_manifest(teach(tiny_model_dir, rows, corpus / "cache"))
    trainer = trainer_of(write_config(corpus, tiny_model_dir, corpus / "train.jsonl", augment={"speeds": [0.8]}))
    rng = np.random.default_rng(0)
    slow, kept = trainer.collate(rows, rng), trainer.collate(taught, rng)
    assert slow is not None
    assert kept is not None
    assert kept.lengths_B.tolist() == [-(-len(load_wave(row)) // 160) for row in rows]
    assert slow.lengths_B.tolist() > kept.lengths_B.tolist()


def test_teaching_along_other_tokens_is_refused(corpus: Path, tiny_model_dir: Path) -> None:
    index = teach(tiny_model_dir, read_manifest(corpus / "train.jsonl")[:1], corpus / "cache")
    trainer = trainer_of(write_config(corpus, tiny_model_dir, index))
    (row,) = read_manifest(index)
    with pytest.raises(CheckpointError, match=r"00000\.safetensors: teaching 0 is along other tokens"):
        batch_of(trainer, [dataclasses.replace(row, written="else")])
    assert row.teaching is not None
    row.teaching.path.unlink()
    with pytest.raises(CheckpointError, match=r"00000\.safetensors: no teaching 0"):
        batch_of(trainer, [row])
    line = json.loads(index.read_text())
    index.write_text(json.dumps(line | {"teacher": "nothing"}))
    with pytest.raises(ManifestError, match=rf"{INDEX_FILE}:1"):
        read_manifest(index)


@pytest.mark.slow
def test_a_student_learns_what_another_model_says(corpus: Path, tiny_model_dir: Path, other_model_dir: Path) -> None:
    index = teach(other_model_dir, read_manifest(corpus / "train.jsonl"), corpus / "cache")
    path = write_config(
        corpus, tiny_model_dir, index, targets="teacher", steps=80, optimizer={"learning_rate": 5e-3},
        augment={"noise_probability": 0.0, "freq_masks": 0, "time_masks": 0},
    )  # fmt: skip
    trainer_of(path).run()
    rows = list(csv.DictReader((corpus / "run" / "log.csv").open()))
    assert float(rows[-1]["frames_loss"]) < 0.5 * float(rows[0]["frames_loss"])
    assert float(rows[-1]["tokens_loss"]) < 0.5 * float(rows[0]["tokens_loss"])


@pytest.mark.slow
def test_resumed_distillation_equals_an_uninterrupted_one(
    corpus: Path, tiny_model_dir: Path, other_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = teach(other_model_dir, read_manifest(corpus / "train.jsonl"), corpus / "cache")
    changes = {"checkpoint_minutes": 0.0, "steps": 8, "augment": {"room_probability": 0.5}}
    whole, resumed = whole_and_resumed(
        lambda name: write_config(corpus, tiny_model_dir, index, output_dir=name, **changes), monkeypatch, at=5
    )
    expected, got = load_stored(whole), load_stored(resumed)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
