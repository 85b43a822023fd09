"""The model inside the package on real recordings: right words, the same in any batch, nothing from noise."""

import json
import subprocess
import sys
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from whisper_normalizer.english import EnglishTextNormalizer

from fun_asr import Transcriber, Transcript, load_model
from fun_asr.audio.decode import decode
from fun_asr.audio.features import log_mel
from fun_asr.layers.attention import length_mask
from fun_asr.models.fun_asr.load import load_network
from fun_asr.transcriber import BUNDLED_MODEL
from fun_asr.weights.directory import SHARD_BYTES
from fun_asr.weights.precision import ComputeType

DATA = Path(__file__).parent / "data"
ROWS = [json.loads(line) for line in (DATA / "speech.jsonl").open()]
PATHS = [DATA / row["audio_filepath"] for row in ROWS]
normalize = EnglishTextNormalizer()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return load_model()


@pytest.fixture(scope="module")
def exact() -> Transcriber:
    return load_model(compute_type="float32")


def texts(results: object) -> list[str]:
    found = list(results)  # type: ignore[call-overload]
    assert all(isinstance(result, Transcript) for result in found), found
    return [result.text for result in found]


def wer(hypotheses: list[str]) -> float:
    return jiwer.wer([normalize(row["text"]) for row in ROWS], [normalize(text) for text in hypotheses])


@pytest.mark.parametrize("beam_size", [3, 1])
def test_real_speech_comes_out_right_and_formatted(transcriber: Transcriber, beam_size: int) -> None:
    outputs = texts(transcriber.transcribe(PATHS, language="en", beam_size=beam_size))
    assert wer(outputs) < 0.1, outputs
    assert all(text[0].isupper() for text in outputs), outputs
    assert sum(text[-1] in ".?!" for text in outputs) >= len(outputs) - 1, outputs


def test_ctc_decoding_of_real_speech(transcriber: Transcriber) -> None:
    outputs = texts(transcriber.transcribe(PATHS, decoding="ctc"))
    assert wer(outputs) < 0.35, outputs
    assert all(text[0].isupper() and text[-1] in ".?!" for text in outputs), outputs


def test_english_is_detected(transcriber: Transcriber) -> None:
    results = list(transcriber.transcribe(PATHS[3:5]))
    for result in results:
        assert isinstance(result, Transcript)
        assert result.language == "en"
        assert result.language_probability is not None
        assert 0.5 < result.language_probability <= 1


def test_another_language_is_detected_and_written(transcriber: Transcriber) -> None:
    """The CTC head knows English alone: it must still hear speech in Spanish."""
    (result,) = transcriber.transcribe([DATA / "es-00003.opus"])
    assert isinstance(result, Transcript)
    assert result.language == "es"
    assert jiwer.wer("este ha sido el verano más caluroso en muchos años", result.text.lower().strip(".")) < 0.25


def test_batch_equals_single_in_text_and_logits(exact: Transcriber) -> None:
    together = texts(exact.transcribe(PATHS, language="en", batch_size=len(PATHS)))
    alone = [texts(exact.transcribe([path], language="en"))[0] for path in PATHS]
    assert together == alone
    model = load_network(BUNDLED_MODEL, torch.device("cpu"), ComputeType.FLOAT32)
    waves = [decode(path) for path in PATHS]
    tokens = torch.tensor([[50258, 50259, 50359, 50363]])
    with torch.inference_mode():
        memory, lengths = model.encode(*log_mel(waves))
        mask = length_mask(lengths, memory.shape[1])
        batch = model.decoder.embedding.logits(model.decoder(tokens.expand(len(waves), -1), memory, mask))
        for row, wave in zip(batch, waves, strict=True):
            single, _ = model.encode(*log_mel([wave]))
            logits = model.decoder.embedding.logits(model.decoder(tokens, single))
            torch.testing.assert_close(row, logits[0], atol=1e-3, rtol=0)


def test_int8_writes_what_float32_writes(transcriber: Transcriber, exact: Transcriber) -> None:
    int8 = texts(transcriber.transcribe(PATHS, language="en"))
    float32 = texts(exact.transcribe(PATHS, language="en"))
    assert jiwer.wer([normalize(t) for t in float32], [normalize(t) for t in int8]) < 0.05


@pytest.mark.parametrize("kind", ["silence", "white noise", "hum", "clicks"])
def test_nothing_is_written_where_nobody_speaks(transcriber: Transcriber, kind: str) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(10 * 16_000) / 16_000
    wave = {
        "silence": np.zeros(len(time)),
        "white noise": 0.05 * rng.normal(size=len(time)),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * time) + 0.05 * np.sin(2 * np.pi * 150 * time),
        "clicks": np.where(rng.random(len(time)) < 2e-4, 0.5, 0.0),
    }[kind]
    assert transcriber.transcribe_samples(wave.astype(np.float32), language="en").text == ""


def test_long_recording_keeps_every_sentence(transcriber: Transcriber, tmp_path: Path) -> None:
    pause = np.zeros(8_000, np.float32)
    waves = [part for _ in range(3) for path in PATHS for part in (decode(path), pause)]
    long = np.concatenate(waves)
    assert len(long) > 120 * 16_000
    soundfile.write(tmp_path / "long.flac", long, 16_000)
    (result,) = transcriber.transcribe([tmp_path / "long.flac"], language="en")
    assert isinstance(result, Transcript)
    assert result.duration == pytest.approx(len(long) / 16_000)
    reference = " ".join(row["text"] for row in ROWS * 3)
    assert jiwer.wer(normalize(reference), normalize(result.text)) < 0.14, result.text
    for earlier, later in zip(result.chunks, result.chunks[1:], strict=False):
        assert earlier.end == later.start
    assert max(chunk.end - chunk.start for chunk in result.chunks) <= 30


def test_model_loads_in_under_two_seconds_without_pickle() -> None:
    assert not [p for p in BUNDLED_MODEL.rglob("*") if p.suffix in {".pt", ".bin", ".pkl", ".ckpt"}]
    assert all(shard.stat().st_size < 60 * 10**6 for shard in BUNDLED_MODEL.glob("*.safetensors"))
    assert SHARD_BYTES < 60 * 10**6
    code = (
        "import time, torch, tokenizers, sentencepiece, fun_asr.transcriber as t; "
        "start = time.perf_counter(); t.load_model(); print(time.perf_counter() - start)"
    )
    runs = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(3)]
    assert min(runs) < 2


def test_a_hotword_is_written_where_it_was_said_and_nowhere_else(transcriber: Transcriber) -> None:
    """Of "no one attacks an oasis" the model makes "and oasis"; no clip has anything near "Zarathustra"."""
    names = ["Zarathustra", "Quillan", "Ada Lovelace"]
    plain = list(transcriber.transcribe(PATHS, language="en"))
    assert texts(plain)[0] == "No one attacks and oasis."
    (biased,) = transcriber.transcribe(PATHS[:1], language="en", hotwords=["an oasis", *names])
    assert isinstance(biased, Transcript)
    assert biased.text == "No one attacks an oasis."
    assert biased.segments[0].score is not None and plain[0].segments[0].score is not None
    assert biased.segments[0].score < plain[0].segments[0].score, "the bonus must not be in the score"
    assert texts(transcriber.transcribe(PATHS, language="en", hotwords=names)) == texts(plain)


@pytest.mark.parametrize(("start", "end"), [(0.88, 1.34), (1.5, 2.1)])
def test_a_lone_short_word_is_written_inside_its_recording(transcriber: Transcriber, start: float, end: float) -> None:
    samples = decode(DATA / "cv-00001.opus")[round(start * 16_000) : round(end * 16_000)]
    result = transcriber.transcribe_samples(samples, language="en")
    assert 1 <= len(result.text.split()) <= 2, result.text
    for word in result.segments[0].words:
        assert 0 <= word.start <= word.end <= result.duration


@pytest.mark.parametrize("language", [None, ("es", "en")])
def test_two_languages_in_one_recording_are_each_written(
    transcriber: Transcriber, language: tuple[str, ...] | None
) -> None:
    pause = np.zeros(3 * 16_000, np.float32)
    clips = [decode(DATA / name) for name in ("es-00003.opus", "cv-00001.opus", "libri-00004.opus")]
    result = transcriber.transcribe_samples(
        np.concatenate([part for clip in clips for part in (clip, pause)]), language=language
    )
    found = [segment.language for segment in result.segments]
    assert (found[0], set(found[1:])) == ("es", {"en"}), result
    assert "oasis" in result.text and "virtues" in result.text
    assert result.language == "en", "there is more of it"
    assert all((segment.language_probability or 0) > 0.5 for segment in result.segments if segment.text)


def test_a_name_that_is_said_again_is_written_again_at_the_highest_weight(transcriber: Transcriber) -> None:
    parts = [decode(DATA / name) for name in ("so762-00001.opus", "cv-00001.opus", "so762-00001.opus")]
    sound = np.concatenate([np.append(part, np.zeros(8_000, np.float32)) for part in parts])
    result = transcriber.transcribe_samples(sound, language="en", hotwords=[("Sandie", 10.0)])
    assert normalize(result.text) == "sandie has a big arm no one attacks and oasis sandie has a big arm"
