"""What a program asks of a model beside transcripts, and several threads asking at once."""

import io
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import fun_asr
from fun_asr import AudioDecodeError, ConfigError, Transcriber, Word, load_model
from fun_asr.audio.decode import SAMPLE_RATE, decode
from fun_asr.audio.excerpt import Excerpt
from fun_asr.decoding.attention_times import attention_weights
from fun_asr.models.fun_asr.recogniser import FunASRRecogniser
from tests.models.reference import DATA

ENGLISH, SPANISH, OTHER = DATA / "libri-00001.opus", DATA / "es-00003.opus", DATA / "cv-00001.opus"


@pytest.fixture(scope="module")
def tiny(tiny_model_dir: Path) -> Transcriber:
    return load_model(tiny_model_dir, device="cpu", compute_type="float32")


@pytest.fixture(scope="module")
def bundled() -> Transcriber:
    return load_model(device="cpu")


def test_a_recording_is_decoded_to_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = decode(ENGLISH)
    content = ENGLISH.read_bytes()
    with ENGLISH.open("rb") as file:
        for source in (str(ENGLISH), ENGLISH, content, io.BytesIO(content), file):
            samples = fun_asr.decode_audio(source)
            assert samples.dtype == np.float32
            np.testing.assert_array_equal(samples, expected)
    part = fun_asr.decode_audio(Excerpt(str(ENGLISH), 1.0, 2.0))
    np.testing.assert_array_equal(part, expected[SAMPLE_RATE : 3 * SAMPLE_RATE])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AudioDecodeError, match="a recording in memory: "):
        fun_asr.decode_audio(b"no recording")
    with pytest.raises(AudioDecodeError, match="missing"):
        fun_asr.decode_audio("missing.wav")
    with pytest.raises(ConfigError, match="channels"):
        fun_asr.decode_audio(ENGLISH, channels="each")


@pytest.mark.parametrize(("clip", "language"), [(ENGLISH, "en"), (SPANISH, "es")])
def test_the_language_of_a_recording_is_that_of_its_transcript(bundled: Transcriber, clip: Path, language: str) -> None:
    found = bundled.detect_language(clip)
    transcript = bundled.transcribe(clip)
    assert found is not None and found.code == language == transcript.language
    assert found.probability == pytest.approx(transcript.language_probability, abs=0.02)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert list(found.probabilities.values()) == sorted(found.probabilities.values(), reverse=True)
    assert set(found.probabilities) == set(bundled.languages)
    of_samples = bundled.detect_language(decode(clip), among=["de", "Portuguese"])
    assert of_samples is not None and set(of_samples.probabilities) == {"de", "pt"}


def test_silence_has_no_language(tiny: Transcriber) -> None:
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    assert tiny.detect_language(silence) is None
    with pytest.raises(ConfigError, match="nobody is heard"):
        tiny.align("hello", silence)
    with pytest.raises(ConfigError, match="unknown to the model"):
        tiny.detect_language(ENGLISH, among=["fr"])


@pytest.mark.parametrize(("clip", "language", "tolerance"), [(ENGLISH, "en", 0.05), (SPANISH, "es", 0.1)])
def test_words_of_a_given_text_lie_where_the_transcript_has_them(
    bundled: Transcriber, clip: Path, language: str, tolerance: float
) -> None:
    transcript = bundled.transcribe(clip, language=language, itn=False)
    words = [word for segment in transcript.segments for word in segment.words]
    aligned = bundled.align(transcript.text, clip, language=language)
    assert [word.text for word in aligned] == [word.text for word in words]
    apart = [abs(a.start - b.start) for a, b in zip(aligned, words, strict=True)]
    assert np.median(apart) < tolerance and np.quantile(apart, 0.9) < 3 * tolerance
    assert all((word.confidence is None) == (language != "en") for word in aligned)


def test_a_wrong_word_is_heard_less_surely(bundled: Transcriber) -> None:
    transcript = bundled.transcribe(ENGLISH, language="en", itn=False)
    right = transcript.text.split()
    wrong = [*right[:3], "kangaroo", *right[4:]]
    (said, instead) = (bundled.align(" ".join(words), ENGLISH, language="en")[3] for words in (right, wrong))
    assert instead.text == "kangaroo"
    assert said.confidence is not None and instead.confidence is not None
    assert instead.confidence < 0.5 * said.confidence


def test_what_cannot_be_aligned_is_said(tiny: Transcriber) -> None:
    with pytest.raises(ConfigError, match=r"up to 30 s of sound, got 40\.0"):
        tiny.align("one", np.full(40 * SAMPLE_RATE, 0.1, np.float32), language="en")
    with pytest.raises(ConfigError, match=r"got 0\.0"):
        tiny.align("one", np.zeros(0, np.float32), language="en")
    assert tiny.align(" ", decode(ENGLISH), language="en") == ()
    with pytest.raises(ConfigError, match="floating-point mono"):
        tiny.align("one", np.zeros((2, 100), np.float32), language="en")


def test_several_threads_get_what_one_gets(tiny: Transcriber) -> None:
    # German: by cross-attention, which is read off the one decoder that all use.
    def ask(clip: Path, language: str) -> tuple[object, Sequence[Word], object]:
        transcript = tiny.transcribe(clip, language=language, beam_size=2)
        words = [word for segment in transcript.segments for word in segment.words]
        found = tiny.detect_language(clip)
        return (transcript.text, words), tiny.align("pack my box", decode(clip)[:160_000], language=language), found

    asked = [(clip, language) for clip in (ENGLISH, OTHER, SPANISH) for language in ("de", "en")] * 2
    alone = [ask(*question) for question in asked]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda question: ask(*question), asked)) == alone


def test_attention_is_that_of_the_thread_s_own_text(tiny: Transcriber) -> None:
    recogniser = tiny.recogniser
    assert isinstance(recogniser, FunASRRecogniser)
    decoder = recogniser.network.decoder
    draw = torch.Generator().manual_seed(3)
    encoded = torch.randn(1, 20, decoder.config.dim, generator=draw)
    tokens = torch.tensor([[27, 28, 1, 2]])
    expected = attention_weights(decoder, tokens, encoded, None, [(0, 0), (1, 1)])
    reached, done = threading.Event(), threading.Event()

    def interrupt(*_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            reached.set()
            done.wait(10)

    def decode_something_else() -> None:
        reached.wait(10)
        decoder(torch.tensor([[27, 29, 3, 4, 5, 6]]), -encoded, None)
        done.set()

    other = threading.Thread(target=decode_something_else)
    other.start()
    handle = decoder.blocks[1].register_forward_hook(interrupt)
    try:
        found = attention_weights(decoder, tokens, encoded, None, [(0, 0), (1, 1)])
    finally:
        handle.remove()
        other.join()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def tokens_of(transcriber: Transcriber, beside: Callable[[], object]) -> int:
    with transcriber.collect_routing() as layers:
        thread = threading.Thread(target=beside)
        thread.start()
        transcriber.transcribe(ENGLISH, language="en", beam_size=1)
        thread.join()
    return layers[0].tokens


def test_routing_is_counted_of_the_thread_that_asks(tiny: Transcriber) -> None:
    alone = tokens_of(tiny, lambda: None)
    both = tokens_of(tiny, lambda: [tiny.transcribe(OTHER, language="en", beam_size=1) for _ in range(3)])
    assert both == alone > 0
    with tiny.collect_routing() as layers:
        list(tiny.stream_segments(ENGLISH, language="en", beam_size=1))
    assert layers[0].tokens == alone
