"""Published models fine-tuned: what comes out is a folder of the publisher's layout, and an adapter says the same."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import GraniteSpeech5ForCTC, ParakeetForCTC, WhisperForConditionalGeneration

from fun_asr.cli import main
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.models.conformer import recogniser as conformer
from fun_asr.models.granite import recogniser as granite
from fun_asr.models.whisper import recogniser as whisper
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.weights.directory import load_stored
from tests.models.conformer import conftest as parakeet_models
from tests.models.granite import conftest as granite_models
from tests.models.reference import segments
from tests.models.whisper import conftest as whisper_models
from tests.training.runs import read_rows, train, trainer_of, whole_and_resumed, write_config, write_manifest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
TINY_EN = ROOT / "exp" / "peers" / "models" / "whisper-tiny.en"
RAW = TranscriptionOptions(language="en", beam_size=1, itn=False, punctuation=False, guard=False)
PLAIN = {"noise_probability": 0.0, "speeds": [1.0], "gain_db": 0.0, "telephone_probability": 0.0, "freq_masks": 0}


@dataclass(frozen=True)
class Family:
    """A published family: how a small model of it is made, loaded here, and loaded by transformers."""

    publish: Callable[[Path], Path]
    module: Any
    reference: Any
    loss: str
    learning_rate: float
    projection: str
    """Of the queries of the first layer."""


def parakeet(directory: Path) -> Path:
    return parakeet_models.publish("ctc", directory).directory


def granite_speech(directory: Path) -> Path:
    return granite_models.publish_granite(directory).directory


def random_whisper(directory: Path) -> Path:
    return whisper_models.save_transformers(whisper_models.random_whisper(), directory)


FAMILIES = {
    "parakeet": Family(
        parakeet, conformer, ParakeetForCTC, "ctc_loss", 3e-3, "encoder.layers.0.self_attn.q_proj.weight"
    ),
    "granite": Family(
        granite_speech, granite, GraniteSpeech5ForCTC, "ctc_loss", 3e-3, "encoder.layers.0.self_attn.q_proj.weight"
    ),
    "whisper": Family(
        random_whisper, whisper, WhisperForConditionalGeneration, "decoder_loss", 3e-3,
        "model.encoder.layers.0.self_attn.q_proj.weight",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def start(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family.publish(tmp_path_factory.mktemp("start"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Real recordings of up to 4 s with short texts in small letters."""
    rows = []
    for row, text in zip(read_rows(DATA / "speech.jsonl")[:3], ("no one", "the red cross", "and dunes"), strict=True):
        seconds = min(4.0, float(str(row["duration"])))
        rows.append({"audio_filepath": str(DATA / str(row["audio_filepath"])), "duration": seconds, "text": text})
    write_manifest(tmp_path / "train.jsonl", rows)
    return tmp_path


def waves(corpus: Path) -> list[Any]:
    return [
        soundfile.read(row["audio_filepath"], dtype="float32")[0][: int(16_000 * float(str(row["duration"])))]
        for row in read_rows(corpus / "train.jsonl")
    ]


def recognise(family: Family, directory: Path, corpus: Path) -> list[str]:
    recogniser = family.module.load(ModelOptions(directory=directory, device="cpu", compute_type="float32"))
    found = recogniser.recognise(segments(waves(corpus)), ["en"] * len(waves(corpus)), RAW)
    return [" ".join(segment.spoken.split()) for segment in found]


def config(corpus: Path, start: Path, family: Family, **changes: object) -> Path:
    usual = {"optimizer": {"learning_rate": family.learning_rate, "warmup_steps": 2}, "augment": PLAIN}
    return write_config(corpus, start, **{**usual, "batch_seconds": 120, "precision": "float32", **changes})


def losses(run: Path, name: str) -> list[float]:
    with (run / "log.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_fine_tuning_lowers_the_loss_and_writes_what_transformers_loads(
    family: Family, start: Path, corpus: Path
) -> None:
    final = train(config(corpus, start, family, steps=20))
    first, last = losses(corpus / "run", family.loss)
    assert last < 0.9 * first
    assert {path.name for path in start.glob("*.json")} <= {path.name for path in final.iterdir()}
    theirs, said = family.reference.from_pretrained(final, output_loading_info=True)
    assert not said["missing_keys"] and not said["unexpected_keys"]
    trained, before = load_file(final / "model.safetensors"), load_file(start / "model.safetensors")
    assert set(before) <= set(trained), "nothing of the publisher's is lost"
    assert {name: tensor.shape for name, tensor in trained.items() if name in before} == {
        name: tensor.shape for name, tensor in before.items()
    }
    assert not torch.equal(trained[family.projection], before[family.projection])
    running = [name for name in before if "running_" in name]
    assert all(torch.equal(trained[name], before[name]) for name in running), "the statistics of its normalisation stay"
    # The network that is trained, the folder read by transformers, and the folder read here say the same.
    trainer = trainer_of(config(corpus, final, family, output_dir="again"))
    trainer.model.eval()
    batch = trainer.collate_dev(trainer.sources[0][0], np.random.default_rng(0))
    with torch.no_grad():
        ours = trainer.trainee.losses(batch).shown[family.loss]
        assert float(ours) == pytest.approx(reference_loss(theirs.eval(), batch), rel=1e-4)
        texts = trainer.trainee.recognise(waves(corpus), ["en"] * 3)["wer"]
    assert [" ".join(text.split()) for text in texts] == recognise(family, final, corpus)
    assert recognise(family, final, corpus) != recognise(family, start, corpus)


def reference_loss(model: Any, batch: Any) -> float:
    """transformers' loss a token."""
    if hasattr(batch, "tokens_BS"):
        logits = model(input_features=batch.features, decoder_input_ids=batch.tokens_BS).logits
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels_BS.flatten()))
    total = 0.0
    for row, length, label in zip(batch.features, batch.lengths_B, batch.labels, strict=True):
        logits = model(input_features=row[None, :length]).logits[0]
        blank = model.config.pad_token_id
        frames = torch.tensor(len(logits))
        total += float(
            torch.nn.functional.ctc_loss(
                logits.log_softmax(-1), label, frames, torch.tensor(len(label)), blank, reduction="sum"
            )
        )
    return total / sum(len(label) for label in batch.labels)


def test_an_adapter_is_kept_apart_and_merged_into_a_model_that_says_the_same(
    family: Family, start: Path, corpus: Path
) -> None:
    path = config(corpus, start, family, steps=20, lora={"rank": 4}, optimizer={"learning_rate": 2e-2})
    trainer = trainer_of(path)
    final = trainer.run()
    first, last = losses(corpus / "run", family.loss)
    assert last < first
    trainer.model.eval()
    with torch.inference_mode():
        texts = trainer.trainee.recognise(waves(corpus), ["en"] * 3)["wer"]
    adapted = [" ".join(text.split()) for text in texts]
    adapter = corpus / "run" / "adapter"
    thin = load_file(adapter / "adapter_model.safetensors")
    module = family.projection.removesuffix(".weight")
    assert thin[f"base_model.model.{module}.lora_A.weight"].shape[0] == 4
    kept = load_file(sorted((corpus / "run").glob("checkpoint-*"))[-1] / "model.safetensors")
    assert not any(name.endswith("proj.weight") for name in kept), "what is frozen is not written again and again"

    merged = corpus / "merged"
    result = CliRunner().invoke(main, ["convert", "merge", str(start), str(adapter), str(merged)])
    assert result.exit_code == 0, result.output
    found, expected = load_file(merged / "model.safetensors"), load_file(final / "model.safetensors")
    before = load_file(start / "model.safetensors")
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)
        if f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight" not in thin:
            assert torch.equal(tensor, before[name]), f"{name} is not adapted"
    assert adapted == recognise(family, merged, corpus) == recognise(family, final, corpus)
    assert adapted != recognise(family, start, corpus)


def test_a_part_of_joined_projections_is_adapted(tmp_path: Path, corpus: Path) -> None:
    start = random_whisper(tmp_path / "start")
    family = FAMILIES["whisper"]
    train(config(corpus, start, family, steps=2, lora={"rank": 2, "alpha": 8, "targets": ["q_proj", "v_proj"]}))
    adapter = corpus / "run" / "adapter"
    names = {name.split(".lora_")[0].rpartition(".")[2] for name in load_file(adapter / "adapter_model.safetensors")}
    assert names == {"q_proj", "v_proj"}
    said = json.loads((adapter / "adapter_config.json").read_text())
    assert (said["peft_type"], said["r"], said["lora_alpha"]) == ("LORA", 2, 8)
    before = load_file(start / "model.safetensors")
    after = load_file(corpus / "run" / "final" / "model.safetensors")
    moved = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert moved == names


@pytest.mark.parametrize("layout", ["ctranslate2", "openai"])
def test_whisper_in_other_layouts_becomes_a_folder_of_transformers(layout: str, tmp_path: Path, corpus: Path) -> None:
    family, model = FAMILIES["whisper"], whisper_models.random_whisper()
    start = tmp_path / "start"
    if layout == "ctranslate2":
        whisper_models.save_ctranslate2(model, start)
    else:
        start.mkdir()
        torch.save(whisper_models.openai_values(model), start / "tiny.pt")
        whisper_models.write_tokenizer(start / "tokenizer.json")
    final = train(config(corpus, start, family, steps=2, lora={"rank": 2}))
    theirs = WhisperForConditionalGeneration.from_pretrained(final)
    assert theirs.config.d_model == model.config.d_model
    assert theirs.generation_config.no_timestamps_token_id == whisper_models.token("notimestamps")
    assert recognise(family, final, corpus)
    merged = tmp_path / "merged"
    arguments = ["convert", "merge", str(start), str(corpus / "run" / "adapter"), str(merged)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    for name, tensor in load_file(merged / "model.safetensors").items():
        torch.testing.assert_close(tensor, load_file(final / "model.safetensors")[name], atol=1e-6, rtol=1e-5)


def test_a_killed_adapter_run_goes_on(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = parakeet(tmp_path)
    usual = {"steps": 4, "lora": {"rank": 2}, "checkpoint_minutes": 0.0}
    whole, resumed = whole_and_resumed(
        lambda name: config(corpus, start, FAMILIES["parakeet"], output_dir=name, **usual), monkeypatch, at=3
    )
    expected, got = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    with pytest.raises(ConfigError, match="had the LoRA rank 2, not 0"):
        train(config(corpus, start, FAMILIES["parakeet"], output_dir="whole", steps=5))


def test_the_bundled_family_is_adapted_too(corpus: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    path = write_config(corpus, tiny_model_dir, steps=3, lora={"rank": 2}, batch_seconds=30)
    final = train(path)
    arguments = ["convert", "merge", str(tiny_model_dir), str(corpus / "run" / "adapter"), str(tmp_path / "merged")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    before, merged, expected = (load_stored(folder) for folder in (tiny_model_dir, tmp_path / "merged", final))
    moved = {name for name in before if not torch.equal(before[name], merged[name])}
    assert moved
    assert all("attention" in name and name.endswith("weight") for name in moved)
    for name in expected:
        torch.testing.assert_close(merged[name], expected[name], atol=1e-6, rtol=1e-5)


def test_adapters_of_other_models_and_kinds_are_refused(tmp_path: Path, corpus: Path, tiny_model_dir: Path) -> None:
    start = parakeet(tmp_path)
    train(config(corpus, start, FAMILIES["parakeet"], steps=1, lora={"rank": 2}))
    adapter = corpus / "run" / "adapter"

    def refusal(model: Path) -> str:
        result = CliRunner().invoke(main, ["convert", "merge", str(model), str(adapter), str(tmp_path / "out")])
        assert result.exit_code != 0
        assert not (tmp_path / "out").exists()
        return result.output

    assert "adapts encoder.layers.0" in refusal(tiny_model_dir)
    assert "belongs to another model" in refusal(tiny_model_dir)
    said = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(said | {"use_dora": True}))
    assert "use_dora is True; only plain LoRA" in refusal(start)
    (adapter / "adapter_config.json").write_text(json.dumps(said | {"r": 3}))
    assert "has no two matrices of rank 3" in refusal(start)
    (adapter / "adapter_config.json").write_text(json.dumps(said))
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert f"{file}: damaged" in refusal(start)
    assert "no adapter" in CliRunner().invoke(main, ["convert", "merge", str(start), str(start), "x"]).output
    assert "is the model itself" in CliRunner().invoke(main, ["convert", "merge", *[str(start)] * 3]).output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": {"rank": 2, "targets": ["nothing"]}}, "no linear layer of the model has nothing in its name"),
        ({"ctc_replay": 1}, "ctc_replay: says nothing to a model of the family conformer"),
        ({"lora": {"targets": ["q_proj"]}}, "lora: rank is 0"),
    ],
)
def test_what_says_nothing_to_a_model_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path, corpus: Path
) -> None:
    start = parakeet(tmp_path)
    with pytest.raises(ConfigError, match=message):
        train(config(corpus, start, FAMILIES["parakeet"], **changes))


def test_transducers_and_archives_are_refused(tmp_path: Path, corpus: Path) -> None:
    start = parakeet_models.publish("tdt", tmp_path).directory
    with pytest.raises(CheckpointError, match=r"writes with a transducer.*parakeet_ctc"):
        train(config(corpus, start, FAMILIES["parakeet"]))
    (tmp_path / "model.nemo").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"\.nemo archives cannot be trained from"):
        train(config(corpus, tmp_path / "model.nemo", FAMILIES["parakeet"]))


@pytest.mark.slow
@pytest.mark.skipif(not TINY_EN.is_dir(), reason="the published weights are not here")
def test_whisper_tiny_learns_real_sentences(tmp_path: Path) -> None:
    sentence = "MY HAAT IS REAAD"
    row = {"audio_filepath": str(DATA / "so762-00001.opus"), "duration": 3.36, "text": sentence}
    rows: list[dict[str, object]] = [row]
    write_manifest(tmp_path / "train.jsonl", rows)
    family = FAMILIES["whisper"]
    changes = {"steps": 12, "lora": {"rank": 8}, "optimizer": {"learning_rate": 3e-3, "warmup_steps": 2}}
    final = train(config(tmp_path, TINY_EN, family, **changes))
    first, last = losses(tmp_path / "run", "decoder_loss")
    assert last < 0.5 * first
    heard = recognise(family, final, tmp_path)
    assert heard != recognise(family, TINY_EN, tmp_path)
    assert heard[0] == sentence
