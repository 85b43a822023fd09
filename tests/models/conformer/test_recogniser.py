"""What a user asks of a Parakeet model: hotwords, decoding by CTC, times, segments of any length."""

from pathlib import Path

import numpy as np
import pytest

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.models.conformer.recogniser import ConformerRecogniser, load
from fun_asr.models.registry import identify
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.text.hotwords import Hotword
from tests.models.conformer.conftest import Published
from tests.models.reference import clips, segments

RAW = TranscriptionOptions(itn=False, punctuation=False)


@pytest.fixture(scope="module")
def ctc(published_ctc: Published) -> ConformerRecogniser:
    return load(ModelOptions(directory=published_ctc.directory, device="cpu", compute_type="float32"))


def test_words_have_times_within_the_segment_and_confidence(ctc: ConformerRecogniser) -> None:
    wave = clips()[1]
    (segment,) = ctc.recognise(segments([wave]), [None], RAW)
    assert segment.language == "en" and segment.word_times
    here = 1.0  # the segment starts a second into the recording
    for word in segment.words:
        assert here <= word.start <= word.end <= 1.0 + len(wave) / 16000
        assert word.confidence is not None and 0 < word.confidence <= 1
        here = word.end


def test_what_is_too_short_or_silent_to_say_anything_has_no_text(ctc: ConformerRecogniser) -> None:
    waves = [clips()[0][:n] for n in (1, 159, 1279)] + [clips()[1]]
    *short, long = ctc.recognise(segments(waves), [None] * 4, RAW)
    assert [segment.text for segment in short] == ["", "", ""]
    assert long.text


def test_a_hotword_with_a_large_weight_is_written(ctc: ConformerRecogniser) -> None:
    wave = clips()[1]
    before = ctc.recognise(segments([wave]), [None], RAW)[0]
    words = before.text.split()
    phrase = next(word for word in words if len(word) > 2)
    options = TranscriptionOptions(itn=False, punctuation=False, hotwords=(Hotword(phrase, 1.0),))
    ctc.prepare(options)
    assert phrase in ctc.recognise(segments([wave]), [None], options)[0].text


def test_a_hotword_in_letters_that_no_piece_has_is_refused(ctc: ConformerRecogniser) -> None:
    with pytest.raises(ConfigError, match="東京"):
        ctc.prepare(TranscriptionOptions(hotwords=(Hotword("東京"),)))


def test_a_transducer_alone_has_neither_ctc_decoding_nor_hotwords(published_tdt: Published) -> None:
    recogniser = load(ModelOptions(directory=published_tdt.directory, device="cpu", compute_type="float32"))
    with pytest.raises(ConfigError, match="no CTC head"):
        recogniser.prepare(TranscriptionOptions(decoding="ctc"))
    with pytest.raises(ConfigError, match="transducer"):
        recogniser.prepare(TranscriptionOptions(hotwords=(Hotword("Nate"),)))


def test_a_segment_of_minutes_is_heard_in_windows(ctc: ConformerRecogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fun_asr.models.frames.WINDOW_SECONDS", 8)
    monkeypatch.setattr("fun_asr.models.frames.OVERLAP_SECONDS", 2)
    wave = np.concatenate(clips()[:4])
    emissions, _ = ctc.emissions([wave], RAW)[0]
    places = [token.start for token in emissions]
    assert places == sorted(places)
    assert places[-1] > len(wave) / 1280 - 80 and places[-1] < len(wave) / 1280


def test_a_missing_shard_and_a_missing_tokenizer_are_named(published_ctc: Published, tmp_path: Path) -> None:
    published_ctc.model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert identify(tmp_path).name == "conformer"
    options = ModelOptions(directory=tmp_path, device="cpu", compute_type="float32")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load(options)
    published_ctc.processor.save_pretrained(tmp_path)
    lost = sorted(tmp_path.glob("*.safetensors"))[1]
    cut = lost.read_bytes()[:-100]
    lost.write_bytes(cut)
    with pytest.raises(CheckpointError, match=lost.name):
        load(options)
    lost.unlink()
    with pytest.raises(CheckpointError, match=lost.name):
        load(options)
