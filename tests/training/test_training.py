"""Training: manifests, batches, augmentation, losses, and a run that resumes exactly where it was killed."""

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from fun_asr.configuration import load_yaml
from fun_asr.errors import CheckpointError, ConfigError, ManifestError
from fun_asr.models.fun_asr.load import load_config
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.training.augment import AugmentConfig, augment_wave, spec_augment
from fun_asr.training.config import TrainConfig
from fun_asr.training.data import IGNORED, Collator, Utterance, load_wave, plan_epoch, read_manifest
from fun_asr.training.losses import joint_loss
from fun_asr.training.trainees import bundled
from fun_asr.training.trainer import Trainer
from fun_asr.weights.directory import load_stored
from tests.training.runs import WORDS, make_corpus, train, trainer_of, whole_and_resumed, write_config


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path)


def test_manifest_lines(corpus: Path) -> None:
    rows = read_manifest(corpus / "train.jsonl")
    assert [row.text for row in rows] == WORDS
    assert rows[0].written == "owt eno"
    assert rows[0].audio_filepath == corpus / "0.wav"
    (corpus / "bad.jsonl").write_text('{"audio_filepath": "x.wav", "duration": 1}\n{"duration": 2}\n')
    with pytest.raises(ManifestError, match=r"bad\.jsonl:2"):
        read_manifest(corpus / "bad.jsonl")
    with pytest.raises(ManifestError, match=r"none\.jsonl"):
        read_manifest(corpus / "none.jsonl")


def test_a_data_directory_of_kaldis_gives_utterances_that_are_cut_out(corpus: Path) -> None:
    recording = np.concatenate([load_wave(row) for row in read_manifest(corpus / "train.jsonl")[:2]])
    soundfile.write(corpus / "long.wav", recording, 16_000, subtype="FLOAT")
    middle = len(load_wave(read_manifest(corpus / "train.jsonl")[0])) / 16_000
    (corpus / "wav.scp").write_text(f"long {corpus}/long.wav\n")
    (corpus / "text").write_text("long whole\nfirst one\nsecond two\n")
    (whole,) = read_manifest(corpus)
    assert (whole.text, whole.duration) == ("whole", pytest.approx(len(recording) / 16_000))
    (corpus / "segments").write_text(f"first long 0 {middle}\nsecond long {middle} -1\n")
    first, second = read_manifest(corpus)
    assert (first.text, second.text) == ("one", "two")
    assert np.array_equal(np.concatenate([load_wave(first), load_wave(second)]), recording)
    (corpus / "text").write_text("first one\n")
    with pytest.raises(ManifestError, match=r"segments:2: second: has no text"):
        read_manifest(corpus)


def test_a_manifests_duration_cuts_from_the_start_too(corpus: Path) -> None:
    row = read_manifest(corpus / "train.jsonl")[0]
    half = dataclasses.replace(row, duration=row.duration / 2)
    assert np.array_equal(load_wave(half), load_wave(row)[: round(half.duration * 16_000)])


def utterances(durations: list[float]) -> list[Utterance]:
    return [Utterance(audio_filepath=Path(str(i)), duration=d, text="", written="") for i, d in enumerate(durations)]


def test_epoch_plan_passes_over_each_source_by_its_weight_within_the_batch_size() -> None:
    first = utterances(list(np.random.default_rng(0).uniform(1, 15, 200)))
    second = utterances([3.0] * 40)
    plan = plan_epoch([(first, 2), (second, 0.5)], batch_seconds=60, seed=1, epoch=0)
    seen = [id(u) for batch in plan for u in batch]
    assert all(seen.count(id(u)) == 2 for u in first)
    assert sum(seen.count(id(u)) for u in second) == 20
    assert all(len(batch) * max(u.duration for u in batch) <= 60 for batch in plan)
    padded = sum(len(batch) * max(u.duration for u in batch) for batch in plan)
    assert padded < 1.15 * sum(u.duration for batch in plan for u in batch), "like lengths belong together"
    assert plan == plan_epoch([(first, 2), (second, 0.5)], batch_seconds=60, seed=1, epoch=0)
    assert plan != plan_epoch([(first, 2), (second, 0.5)], batch_seconds=60, seed=1, epoch=1)


def test_joined_utterances_follow_each_other_in_sound_and_text(corpus: Path) -> None:
    rows = read_manifest(corpus / "train.jsonl")
    (plan,) = plan_epoch([(rows, 20)], batch_seconds=1e9, seed=0, epoch=0, joined=0.5)
    groups = [u for u in plan if u.parts]
    assert sum(len(u.parts) for u in groups) == pytest.approx(0.5 * 120, abs=20)
    assert sum(len(u.parts) or 1 for u in plan) == 120, "nothing is lost, nothing is doubled"
    group = groups[0]
    assert group.text == " ".join(part.text for part in group.parts)
    assert group.written == " ".join(part.written for part in group.parts)
    assert np.array_equal(load_wave(group), np.concatenate([load_wave(part) for part in group.parts]))


def test_speed_changes_length_and_the_telephone_band_removes_highs() -> None:
    time = np.arange(32_000) / 16_000
    wave = (0.1 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 6000 * time)).astype(np.float32)
    still = {"speeds": (1.0,), "noise_probability": 0.0, "gain_db": 0.0, "telephone_probability": 0.0}
    rng = np.random.default_rng(0)
    assert np.array_equal(augment_wave(wave, [], AugmentConfig(**still), rng), wave)
    slow = augment_wave(wave, [], AugmentConfig(**{**still, "speeds": (0.8,)}), rng)
    assert len(slow) == pytest.approx(40_000, abs=2)
    narrow = augment_wave(wave, [], AugmentConfig(**{**still, "telephone_probability": 1.0}), rng)
    spectrum = np.abs(np.fft.rfft(narrow)) / np.abs(np.fft.rfft(wave)).max()
    assert spectrum[880] > 0.9
    assert spectrum[12_000] < 0.01


def test_spec_augment_masks_only_valid_frames() -> None:
    features = torch.randn(2, 80, 600)
    features[1, :, 400:] = 0
    masked = spec_augment(features.clone(), [600, 400], AugmentConfig(), np.random.default_rng(0))
    changed = masked != features
    assert 0.02 < changed.float().mean() < 0.6
    assert not changed[1, :, 400:].any()


def test_labels_start_after_the_prompt_and_end_with_end_of_text(corpus: Path, tiny_model_dir: Path) -> None:
    tokenizer = Tokenizer(tiny_model_dir / "tokenizer.json")
    collate = Collator(tokenizer, CTCTokenizer(tiny_model_dir / "ctc.model"), n_mels=80, max_tokens=24)
    batch = collate(read_manifest(corpus / "train.jsonl")[:3], np.random.default_rng(0))
    assert batch is not None
    for row, labels, text in zip(batch.tokens_BS.tolist(), batch.labels_BS.tolist(), WORDS[:3], strict=True):
        assert row[:4] == tokenizer.prompt("en")
        trained = [label for label in labels if label != IGNORED]
        assert labels[:3] == [IGNORED] * 3
        assert trained[-1] == tokenizer.eot
        assert tokenizer.decode(trained) == text[::-1]
        assert row[4 : 4 + len(trained) - 1] == trained[:-1], "inputs are the labels one step earlier"


def test_language_is_trained_only_on_request(corpus: Path, tiny_model_dir: Path) -> None:
    tokenizer = Tokenizer(tiny_model_dir / "tokenizer.json")
    ctc_tokenizer = CTCTokenizer(tiny_model_dir / "ctc.model")
    collate = Collator(tokenizer, ctc_tokenizer, n_mels=80, max_tokens=24, train_language=True)
    german, ctc_only = read_manifest(corpus / "train.jsonl")[:2]
    german = dataclasses.replace(german, language="de")
    ctc_only = dataclasses.replace(ctc_only, trains_decoder=False)
    batch = collate([german, ctc_only], np.random.default_rng(0))
    assert batch is not None
    assert batch.labels_BS[0, :3].tolist() == [tokenizer.languages["de"], IGNORED, IGNORED]
    assert set(batch.labels_BS[1].tolist()) == {IGNORED}
    noise = collate([dataclasses.replace(german, text="", written="")], np.random.default_rng(0))
    assert noise is not None
    assert [x for x in noise.labels_BS[0].tolist() if x != IGNORED] == [tokenizer.eot], "noise is in no language"


def test_undecodable_file_costs_only_itself(corpus: Path, tiny_model_dir: Path) -> None:
    (corpus / "1.wav").write_bytes(b"RIFF")
    sizes = {"n_mels": 80, "max_tokens": 24}
    collate = Collator(
        Tokenizer(tiny_model_dir / "tokenizer.json"), CTCTokenizer(tiny_model_dir / "ctc.model"), **sizes
    )
    batch = collate(read_manifest(corpus / "train.jsonl")[:3], np.random.default_rng(0))
    assert batch is not None
    assert len(batch.tokens_BS) == 2


def test_joint_loss_equals_its_definition(corpus: Path, tiny_model_dir: Path) -> None:
    trainer = trainer_of(write_config(corpus, tiny_model_dir))
    trainer.model.eval()
    batch = trainer.collate_dev(read_manifest(corpus / "train.jsonl")[:4], np.random.default_rng(0))
    assert batch is not None
    model = trainer.model
    with torch.no_grad():
        losses = joint_loss(model, batch, ctc_weight=0.3)
        total, tokens, ctc_total, ctc_tokens = 0.0, 0, 0.0, 0
        for i, length in enumerate(batch.lengths_B.tolist()):
            encoded, frames = model.encode(batch.features[i : i + 1, :, :length], torch.tensor([length]))
            hidden = model.decoder(batch.tokens_BS[i : i + 1], encoded)
            scores = model.decoder.embedding.logits(hidden[0]).log_softmax(-1)
            for position, label in enumerate(batch.labels_BS[i].tolist()):
                if label != IGNORED:
                    total, tokens = total - float(scores[position, label]), tokens + 1
            log_probs, ctc_frames = model.ctc(encoded, frames)
            target = batch.ctc_labels[i]
            one = torch.nn.functional.ctc_loss(
                log_probs[0], target, ctc_frames, torch.tensor([len(target)]), model.config.ctc.vocab_size - 1, "sum"
            )
            if one.isfinite():  # shorter than its labels: not trained on
                ctc_total += float(one)
            ctc_tokens += len(target)
    assert float(losses.decoder) == pytest.approx(total / tokens, rel=1e-4)
    assert float(losses.ctc) == pytest.approx(ctc_total / ctc_tokens, rel=1e-4)
    assert float(losses.total) == pytest.approx(float(losses.decoder) + 0.3 * float(losses.ctc), rel=1e-5)


def test_router_losses_equal_their_definitions_and_train_the_gates(corpus: Path, tiny_model_dir: Path) -> None:
    trainer = trainer_of(write_config(corpus, tiny_model_dir))
    batch = trainer.collate_dev(read_manifest(corpus / "train.jsonl")[:4], np.random.default_rng(0))
    assert batch is not None
    model = trainer.model.train()
    seen: list[torch.Tensor] = []
    for router in model.decoder.routers():
        router.register_forward_hook(
            lambda module, inputs, _: seen.append(inputs[0] @ module.gate.weight.T)  # logits of every token
        )
    plain = joint_loss(model, batch, ctc_weight=0.0)
    text = (batch.labels_BS != IGNORED).flatten()
    balance, z = [], []
    for router, logits in zip(model.decoder.routers(), seen, strict=True):
        kept = logits[text].detach().double()
        chosen = torch.zeros_like(kept).scatter_(1, kept.topk(router.num_experts_per_token).indices, 1)
        balance.append(kept.shape[1] * float((chosen.sum(0) / chosen.sum() * kept.softmax(-1).mean(0)).sum()))
        z.append(float(kept.exp().sum(-1).log().square().mean()))
    assert float(plain.balance.detach()) == pytest.approx(sum(balance) / len(balance), rel=1e-4)
    assert float(plain.z.detach()) == pytest.approx(sum(z) / len(z), rel=1e-4)
    weighted = joint_loss(model, batch, ctc_weight=0.0, balance_weight=0.1, z_weight=0.01)
    gates = [router.gate.weight for router in model.decoder.routers()]
    added = torch.autograd.grad(weighted.total - plain.total, gates)
    assert all(gradient.abs().max() > 0 for gradient in added)


@pytest.mark.slow
def test_training_learns_and_writes_a_usable_model(corpus: Path, tiny_model_dir: Path) -> None:
    config = write_config(
        corpus, tiny_model_dir, steps=60, optimizer={"learning_rate": 2e-2, "new_learning_rate": 2e-2}
    )
    final = train(config)
    rows = list(csv.DictReader((corpus / "run" / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40, 50, 60]
    assert float(rows[-1]["decoder_loss"]) < 0.8 * float(rows[0]["decoder_loss"])
    assert float(rows[-1]["ctc_loss"]) < float(rows[0]["ctc_loss"])
    assert load_config(final) == load_config(tiny_model_dir)
    assert (final / "tokenizer.json").exists()
    assert (final / "ctc.model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("replays", [0, 2])
def test_resumed_run_equals_an_uninterrupted_one(
    corpus: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, replays: int
) -> None:
    monkeypatch.setattr(bundled, "FEWEST_KEPT_PER_REPLAY", 1)
    changes = {"checkpoint_minutes": 0.0, "steps": 8, "ctc_replay": replays}
    whole, resumed = whole_and_resumed(
        lambda name: write_config(corpus, tiny_model_dir, output_dir=name, **changes), monkeypatch, at=5
    )
    expected, got = load_stored(whole), load_stored(resumed)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.slow
def test_final_model_is_the_mean_of_the_kept_checkpoints(corpus: Path, tiny_model_dir: Path) -> None:
    final = train(write_config(corpus, tiny_model_dir, checkpoint_minutes=0.0, average=3))
    folders = sorted((corpus / "run").glob("checkpoint-*"))
    assert len(folders) == 3
    name = "decoder.blocks.0.ffn.shared.up.weight"
    mean = torch.stack([load_file(folder / "model.safetensors")[name] for folder in folders]).mean(dim=0)
    torch.testing.assert_close(load_stored(final)[name], mean)


@pytest.mark.slow
def test_replayed_ctc_updates_move_only_the_head(
    corpus: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "FEWEST_KEPT_PER_REPLAY", 1)
    still = {"learning_rate": 0.0, "new_learning_rate": 0.0, "ctc_learning_rate": 1e-3, "weight_decay": 0.0}
    changes = {"ctc_replay": 3, "optimizer": still, "steps": 6}
    whole = load_stored(train(write_config(corpus, tiny_model_dir, output_dir="whole", **changes)))
    before = load_stored(tiny_model_dir)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], whole[name])}
    assert moved - {"decoder"} == {"ctc"}
    assert all("balance" in n for n in before if n.startswith("decoder.") and not torch.equal(before[n], whole[n]))
    once = load_stored(train(write_config(corpus, tiny_model_dir, output_dir="once", **{**changes, "ctc_replay": 0})))
    assert not torch.equal(once["ctc.vocabulary.weight"], whole["ctc.vocabulary.weight"])


@pytest.mark.slow
def test_replays_wait_for_eight_batches_each(
    corpus: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = []
    monkeypatch.setattr(Trainer, "_update", lambda self, batches: updates.append(self.step))
    train(write_config(corpus, tiny_model_dir, steps=17, ctc_replay=3))
    assert [updates.count(step) for step in range(17)] == [1] * 7 + [2] * 8 + [3] * 2


def test_older_checkpoints_keep_only_their_weights(corpus: Path, tiny_model_dir: Path) -> None:
    path = write_config(corpus, tiny_model_dir, steps=3, checkpoint_minutes=0.0)
    train(path)
    shutil.rmtree(max((corpus / "run").glob("checkpoint-*")))
    with pytest.raises(CheckpointError, match="checkpoint-0000002"):
        train(path)


def test_another_start_needs_another_output_dir(corpus: Path, tiny_model_dir: Path) -> None:
    train(write_config(corpus, tiny_model_dir, steps=1))
    shutil.copytree(tiny_model_dir, corpus / "other")
    with pytest.raises(ConfigError, match="name another output_dir"):
        train(write_config(corpus, corpus / "other", steps=2))


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_ctc_only_sources_leave_the_decoder_alone(corpus: Path, tiny_model_dir: Path, ctc_weight: float) -> None:
    source = {"manifest": "train.jsonl", "targets": "ctc"}
    final = train(write_config(corpus, tiny_model_dir, train=[source], steps=2, ctc_weight=ctc_weight))
    before, after = load_stored(tiny_model_dir), load_stored(final)
    still = [name for name in before if name.startswith("decoder.") and "balance" not in name]
    assert all(torch.equal(after[name], before[name]) for name in still)
    assert torch.equal(before["ctc.vocabulary.weight"], after["ctc.vocabulary.weight"]) == (ctc_weight == 0)


def test_frozen_parameters_stay(corpus: Path, tiny_model_dir: Path) -> None:
    final = train(write_config(corpus, tiny_model_dir, freeze=["encoder.", "decoder.embedding"], steps=3))
    before, after = load_stored(tiny_model_dir), load_stored(final)
    for name in before:
        if name.startswith(("encoder.", "decoder.embedding")):
            assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["ctc.vocabulary.weight"], after["ctc.vocabulary.weight"])


def test_damaged_checkpoint_is_named(corpus: Path, tiny_model_dir: Path) -> None:
    path = write_config(corpus, tiny_model_dir, steps=2)
    train(path)
    newest = sorted((corpus / "run").glob("checkpoint-*"))[-1]
    for state in ("{", "{}", "[]"):
        (newest / "state.json").write_text(state)
        with pytest.raises(CheckpointError, match=newest.name):
            train(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": []}, "no manifests"),
        ({"precision": "float64"}, "precision"),
        ({"train": [{"manifets": "x"}]}, "unknown key 'manifets'"),
        ({"augment": {"snr_db_min": "loud"}}, "expected a number"),
    ],
)
def test_wrong_training_configs_are_refused(corpus: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_yaml(TrainConfig, write_config(corpus, corpus, **changes))
