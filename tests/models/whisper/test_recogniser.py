"""What the recogniser writes: transformers' greedy texts, alone and in a batch; and what options and guard change."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, WhisperForConditionalGeneration

from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.errors import ConfigError
from fun_asr.models.whisper.features import padded_log_mel
from fun_asr.models.whisper.recogniser import WhisperRecogniser, load
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.text.hotwords import checked_hotwords
from fun_asr.transcriber import Transcriber
from tests.models.whisper.conftest import (
    GENERATION,
    LANGUAGES,
    LETTERS,
    SPECIAL,
    TEXT_TOKENS,
    VOCABULARY,
    WINDOW,
    save_transformers,
    token,
)

GREEDY = TranscriptionOptions(beam_size=1, itn=False, guard=False)


@pytest.fixture(scope="module")
def recogniser(whisper: WhisperForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> WhisperRecogniser:
    return loaded(save_transformers(whisper, tmp_path_factory.mktemp("whisper")))


def loaded(directory: Path) -> WhisperRecogniser:
    return load(ModelOptions(directory=directory, device="cpu", compute_type="float32"))


def segments(clips: list[np.ndarray], start: int = 0) -> list[AudioSegment]:
    return [AudioSegment(0, Span(start, start + len(clip)), clip) for clip in clips]


def their_texts(
    whisper: WhisperForConditionalGeneration, clips: list[np.ndarray], language: str | None, task: str = "transcribe"
) -> list[str]:
    config = GenerationConfig(
        decoder_start_token_id=token("startoftranscript"),
        eos_token_id=token("endoftext"),
        pad_token_id=token("endoftext"),
        lang_to_id={f"<|{code}|>": token(code) for code in LANGUAGES},
        task_to_id={name: token(name) for name in ("transcribe", "translate")},
        no_timestamps_token_id=token("notimestamps"),
        is_multilingual=True,
        # Ours never writes what comes after the end of text.
        suppress_tokens=[*GENERATION["suppress_tokens"], *range(token("endoftext") + 1, VOCABULARY)],
        begin_suppress_tokens=GENERATION["begin_suppress_tokens"],
        max_length=40,
    )
    features = padded_log_mel(clips, n_mels=whisper.config.num_mel_bins, frames=WINDOW)
    written = whisper.generate(features, generation_config=config, language=language, task=task, do_sample=False)
    letters = {number: " " if letter == "Ġ" else letter for letter, number in LETTERS.items()}
    return ["".join(letters.get(t, "") for t in row.tolist()).strip() for row in written]


@pytest.mark.parametrize("language", ["de", None])
def test_greedy_texts_equal_transformers_alone_and_in_a_batch(
    whisper: WhisperForConditionalGeneration,
    recogniser: WhisperRecogniser,
    clips: list[np.ndarray],
    language: str | None,
) -> None:
    expected = [their_texts(whisper, [clip], language)[0] for clip in clips]
    together = recogniser.recognise(segments(clips), [language] * len(clips), GREEDY)
    alone = [recogniser.recognise(segments([clip]), [language], GREEDY)[0] for clip in clips]
    assert [found.spoken for found in together] == [" ".join(text.split()) for text in expected]
    assert [found.spoken for found in alone] == [found.spoken for found in together]
    assert len({found.spoken for found in together}) > 1
    assert all((found.language_probability is None) == (language is not None) for found in together)


def test_translation_is_asked_for_by_the_prompt(
    whisper: WhisperForConditionalGeneration, recogniser: WhisperRecogniser, clips: list[np.ndarray]
) -> None:
    options = dataclasses.replace(GREEDY, task="translate")
    found = recogniser.recognise(segments(clips[:2]), ["de", "de"], options)
    expected = [" ".join(text.split()) for text in their_texts(whisper, clips[:2], "de", "translate")]
    assert [segment.spoken for segment in found] == expected
    assert expected != [segment.spoken for segment in recogniser.recognise(segments(clips[:2]), ["de", "de"], GREEDY)]


def test_the_likeliest_language_is_found(
    whisper: WhisperForConditionalGeneration, recogniser: WhisperRecogniser, clips: list[np.ndarray]
) -> None:
    features = padded_log_mel(clips[:1], n_mels=80, frames=WINDOW)
    with torch.no_grad():
        logits = whisper(features, decoder_input_ids=torch.tensor([[token("startoftranscript")]])).logits[0, 0]
    probabilities = logits[[token(code) for code in LANGUAGES]].softmax(dim=0)
    (found,) = recogniser.recognise(segments(clips[:1]), [None], GREEDY)
    assert found.language == LANGUAGES[int(probabilities.argmax())]
    assert found.language_probability == pytest.approx(float(probabilities.max()), abs=1e-4)


def test_an_initial_prompt_comes_before_the_transcript(
    whisper: WhisperForConditionalGeneration, recogniser: WhisperRecogniser, clips: list[np.ndarray]
) -> None:
    prompt = [token("startofprev"), LETTERS["Ġ"], LETTERS["a"], LETTERS["d"], LETTERS["a"]]
    prompt += [token(name) for name in ("startoftranscript", "de", "transcribe", "notimestamps")]
    features = padded_log_mel(clips[:1], n_mels=80, frames=WINDOW)
    with torch.no_grad():
        logits = whisper(features, decoder_input_ids=torch.tensor([prompt])).logits[0, -1]
    logits[[*GENERATION["suppress_tokens"], *GENERATION["begin_suppress_tokens"]]] = -torch.inf
    first = int(logits[: token("endoftext")].argmax())
    options = dataclasses.replace(GREEDY, initial_prompt="ada")
    (found,) = recogniser.recognise(segments(clips[:1]), ["de"], options)
    assert LETTERS[found.spoken[0]] == first


def test_words_lie_in_their_segment_in_order(recogniser: WhisperRecogniser, clips: list[np.ndarray]) -> None:
    for found, segment in zip(
        recogniser.recognise(segments(clips, start=80_000), ["en"] * len(clips), GREEDY),
        segments(clips, 80_000),
        strict=True,
    ):
        assert found.word_times
        assert [word.text for word in found.words] == found.text.split()
        edges = [edge for word in found.words for edge in (word.start, word.end)]
        assert edges == sorted(edges)
        assert 5.0 <= edges[0] and edges[-1] <= segment.span.end / 16_000
        assert all(0 <= word.confidence <= 1 for word in found.words)
    plain = recogniser.recognise(segments(clips[:1]), ["en"], dataclasses.replace(GREEDY, word_times=False))
    assert plain[0].words == () and not plain[0].word_times


def with_logit_bias(
    whisper: WhisperForConditionalGeneration,
    directory: Path,
    changes: dict[int, float],
    monkeypatch: pytest.MonkeyPatch,
) -> WhisperRecogniser:
    """A recogniser of which some logits are changed."""
    found = loaded(save_transformers(whisper, directory))
    embedding = found._network.decoder.embedding
    compute = embedding.logits

    def logits(x: torch.Tensor) -> torch.Tensor:
        scores = compute(x)
        for number, change in changes.items():
            scores[..., number] += change
        return scores

    monkeypatch.setattr(embedding, "logits", logits)
    return found


def test_what_is_unlikely_where_nobody_seems_to_speak_is_not_written(
    whisper: WhisperForConditionalGeneration, clips: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other special tokens take the text's probability, but not its rank.
    changes = {token("nospeech"): 60.0, **dict.fromkeys(range(TEXT_TOKENS + len(SPECIAL), VOCABULARY), 30.0)}
    found = with_logit_bias(whisper, tmp_path, changes, monkeypatch)
    guarded = dataclasses.replace(GREEDY, guard=True)
    (silent,) = found.recognise(segments(clips[:1]), [None], guarded)
    assert (silent.text, silent.words, silent.score, silent.language) == ("", (), None, None)
    (written,) = found.recognise(segments(clips[:1]), [None], GREEDY)
    assert written.text


def test_a_loop_is_decoded_again_or_cut(
    whisper: WhisperForConditionalGeneration, clips: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = with_logit_bias(whisper, tmp_path, {LETTERS["k"]: 50.0, token("endoftext"): -50.0}, monkeypatch)
    (looped,) = found.recognise(segments(clips[:1]), ["en"], dataclasses.replace(GREEDY, guard=True))
    assert looped.looped
    assert "kkkkkkkk" not in looped.text
    (unguarded,) = found.recognise(segments(clips[:1]), ["en"], GREEDY)
    assert "kkkkkkkk" in unguarded.text


def test_a_fallback_draws_another_text_and_always_the_same(
    whisper: WhisperForConditionalGeneration, recogniser: WhisperRecogniser, clips: list[np.ndarray]
) -> None:
    fallback = dataclasses.replace(GREEDY, temperature_fallback=True)
    before = recogniser.recognise(segments(clips), ["en"] * len(clips), GREEDY)
    first = recogniser.recognise(segments(clips), ["en"] * len(clips), fallback)
    again = [recogniser.recognise(segments([clip]), ["en"], fallback)[0] for clip in clips]
    assert any(found.score < -1 for found in before)
    assert [found.text for found in first] != [found.text for found in before]
    assert [found.text for found in first] == [found.text for found in again]


def test_hotwords_are_preferred(recogniser: WhisperRecogniser, clips: list[np.ndarray]) -> None:
    without = recogniser.recognise(segments(clips), ["en"] * len(clips), GREEDY)
    written = "".join(found.text for found in without)
    rare = min(set(written) - {" "}, key=written.count)
    options = dataclasses.replace(GREEDY, hotwords=checked_hotwords([(2 * rare, 10.0)]))
    recogniser.prepare(options)
    preferred = recogniser.recognise(segments(clips), ["en"] * len(clips), options)
    assert "".join(found.text for found in preferred).count(2 * rare) > written.count(2 * rare)


def test_an_english_model_has_no_languages_and_no_translation(
    whisper: WhisperForConditionalGeneration, clips: list[np.ndarray], tmp_path: Path
) -> None:
    directory = save_transformers(whisper, tmp_path)
    path = directory / "generation_config.json"
    path.write_text(path.read_text().replace('"is_multilingual": true', '"is_multilingual": false'))
    english = loaded(directory)
    assert (english.languages, english.tasks) == (("en",), ("transcribe",))
    (found,) = english.recognise(segments(clips[:1]), [None], GREEDY)
    assert (found.language, found.language_probability) == ("en", None)
    prompt = [token("startoftranscript"), token("notimestamps")]
    features = padded_log_mel(clips[:1], n_mels=80, frames=WINDOW)
    with torch.no_grad():
        logits = whisper(features, decoder_input_ids=torch.tensor([prompt])).logits[0, -1]
    logits[[*GENERATION["suppress_tokens"], *GENERATION["begin_suppress_tokens"]]] = -torch.inf
    assert LETTERS[found.spoken[0]] == int(logits[: token("endoftext")].argmax())
    with pytest.raises(ConfigError, match="task translate: this model can only transcribe"):
        Transcriber(english).transcribe([], task="translate")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "fr"}, "language 'fr' is unknown to the model; it has en, zh, de"),
        ({"decoding": "ctc"}, "decoding ctc: a Whisper model has no CTC head"),
    ],
)
def test_what_the_model_cannot_do_is_said_before_the_first_segment(
    recogniser: WhisperRecogniser, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Transcriber(recogniser).transcribe([], **options)


def test_it_says_what_it_is(recogniser: WhisperRecogniser) -> None:
    assert recogniser.languages == LANGUAGES
    assert recogniser.tasks == ("transcribe", "translate")
    assert recogniser.segment_seconds == 30.0
    assert (recogniser.info.family, recogniser.info.device) == ("whisper", "cpu")
    assert recogniser.info.arithmetic == {"encoder": "float32", "decoder": "float32"}
