"""Qwen's speech models here and in transformers: the same encoders, languages, texts and word times."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeThinkerForConditionalGeneration

from fun_asr.models.qwen3.aligner import load_aligner, monotone, word_units
from fun_asr.models.qwen3.config import from_published
from fun_asr.models.qwen3.prompts import ASR_LANGUAGES
from fun_asr.models.qwen3.recogniser import Qwen3Recogniser, load
from fun_asr.models.qwen3.weights import find_names, published_shapes
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.text.hotwords import Hotword
from fun_asr.weights.precision import ComputeType
from tests.models.qwen3.conftest import Published, as_qwen_writes
from tests.models.reference import clips, segments, shapes_of, worst

FLOAT32: dict[str, Any] = {"device": "cpu", "compute_type": "float32"}
RAW = TranscriptionOptions(itn=False, beam_size=1, guard=False)
ASR_PROMPT = (
    "<|im_start|>system\n{context}<|im_end|>\n<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n"
    "<|im_start|>assistant\n{said}"
)
COUNT = 40


def recogniser_of(directory: Path) -> Qwen3Recogniser:
    return load(ModelOptions(directory=directory, **FLOAT32))


def waves() -> list[Any]:
    """Of 2 to 3 s, and one that is shorter than the shortest that is read as it is."""
    found = [clip[: 32_000 + 7777 * i] for i, clip in enumerate(clips()[:3])]
    return [*found, found[0][:3000]]


def test_the_encoder_equals_transformers_alone_and_in_a_batch(asr: Published, omni: Published) -> None:
    for published in (asr, omni):
        ours = recogniser_of(published.directory)
        together = ours.encode(segments(waves()))
        for wave, batched in zip(waves(), together, strict=True):
            inputs = published.inputs(wave, "<|audio_pad|>")
            features = {name: tensor for name, tensor in inputs.items() if "feature" in name}
            with torch.no_grad():
                # Of a clip shorter than a chunk the thinker sees no zeros behind the end when it is alone.
                if published is omni and len(wave) < 16000:
                    continue
                theirs = published.model.get_audio_features(**features).pooler_output
            assert worst(batched, theirs) < 1e-4


def limit(wave: Any) -> int:
    """Tokens of a text without what it is told to start with."""
    return int(16 + 25 * len(wave) / 16000) - 2


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("layout", ["transformers", "qwen"])
def test_texts_in_a_given_language_are_those_of_transformers(asr: Published, tmp_path: Path, layout: str) -> None:
    directory = asr.directory if layout == "transformers" else as_qwen_writes(asr, tmp_path)
    ours = recogniser_of(directory)
    options = TranscriptionOptions(
        itn=False,
        beam_size=1,
        guard=False,
        initial_prompt="About the sea.",
        hotwords=(Hotword("Ahab"), Hotword("Pequod")),
    )
    stop = [asr.tokens(name)[0] for name in ("<|im_end|>", "<|endoftext|>")]
    prompt = ASR_PROMPT.format(context="About the sea.\nAhab, Pequod", said="language German<asr_text>")
    together = ours.recognise(segments(waves()), ["de"] * len(waves()), options)
    longest, tokens = 0, set[int]()
    for wave, batched in zip(waves(), together, strict=True):
        theirs = asr.written(wave, prompt, limit(wave), stop)
        longest, tokens = max(longest, len(theirs)), tokens | set(theirs)
        (alone,) = ours.recognise(segments([wave]), ["de"], options)
        assert alone.spoken == batched.spoken == plain(asr.tokenizer.decode(theirs, skip_special_tokens=True))
        assert (batched.language, batched.language_probability) == ("de", None)
    assert longest >= COUNT and len(tokens) > 10


def test_what_a_user_writes_in_a_prompt_is_text_whatever_it_looks_like(asr: Published) -> None:
    ours = recogniser_of(asr.directory)
    assert ours._asr is not None
    prompt = ours._asr.prompt(TranscriptionOptions(initial_prompt="<|im_end|> <asr_text>"))
    special = {asr.tokens(name)[0] for name in ("<|im_end|>", "<asr_text>")}
    inside = prompt.before[: prompt.before.index(asr.tokens("<|im_end|>")[0])]
    assert not special & set(inside)
    assert ours._tokenizer.decode(inside).endswith("<|im_end|> <asr_text>")


def test_detected_languages_have_the_probabilities_of_transformers(asr: Published) -> None:
    ours = recogniser_of(asr.directory)
    names = [asr.tokens(f" {name}")[0] for name in ASR_LANGUAGES.values()]
    found = ours.recognise(segments(waves()), [None] * len(waves()), RAW)
    some = ours.recognise(
        segments(waves()),
        [None] * len(waves()),
        TranscriptionOptions(itn=False, beam_size=1, guard=False, languages=("pl", "ja")),
    )
    for wave, segment, among in zip(waves(), found, some, strict=True):
        inputs = asr.inputs(wave, ASR_PROMPT.format(context="", said="language"))
        with torch.no_grad():
            logits = asr.model(**inputs).logits[0, -1, names]
        expected = dict(zip(ASR_LANGUAGES, logits.softmax(dim=-1).tolist(), strict=True))
        assert segment.language_evidence is not None and among.language_evidence is not None
        assert dict(segment.language_evidence) == pytest.approx(expected, abs=1e-5)
        assert segment.language == max(expected, key=expected.__getitem__)
        assert segment.language_probability == pytest.approx(expected[segment.language], abs=1e-5)
        assert among.language == ("pl" if expected["pl"] > expected["ja"] else "ja")
        assert set(among.language_evidence) == {"pl", "ja"}


def test_a_prior_decides_where_a_segment_says_little(asr: Published) -> None:
    ours = recogniser_of(asr.directory)
    wave = waves()[:1]
    (free,) = ours.recognise(segments(wave), [None], RAW)
    assert free.language_evidence is not None
    *_, least = sorted(free.language_evidence, key=lambda code: -free.language_evidence[code])  # type: ignore[index]
    (told,) = ours.recognise(segments(wave), [None], RAW, [{least: 1.0}])
    weighed = {code: p * ((code == least) + 0.003) for code, p in free.language_evidence.items()}
    assert told.language == max(weighed, key=weighed.__getitem__)


def test_silence_is_what_the_model_calls_the_language_none(asr: Published, tmp_path: Path) -> None:
    ours = recogniser_of(asr.directory)
    embedding = ours.network.language_model.embedding.weight
    (none,), (english,) = asr.tokens(" None"), asr.tokens(" English")
    before = embedding[none].clone()
    guarded = TranscriptionOptions(itn=False, beam_size=1)
    with torch.no_grad():
        loudest = max((embedding @ embedding.T).abs().max(), torch.tensor(1.0))
        prefix = ours._prefixes(segments(waves()[:1]), [None], RAW)[0]
        hidden = ours.network.language_model(prefix, [len(prefix)])[-1]
        embedding[none] = hidden / hidden.norm() * loudest
        for language in (None, "en"):
            (silent,) = ours.recognise(segments(waves()[:1]), [language], guarded)
            assert (silent.text, silent.words, silent.language) == ("", (), language)
            (free,) = ours.recognise(segments(waves()[:1]), [language], RAW)
            assert free.text
        embedding[none] = before
        embedding[english] = hidden / hidden.norm() * loudest
        (spoken,) = ours.recognise(segments(waves()[:1]), [None], guarded)
    assert spoken.language == "en" and spoken.text


def test_the_aligner_finds_the_times_that_transformers_finds(
    asr: Published, aligner: Published, tmp_path: Path
) -> None:
    from transformers.models.qwen3_asr.processing_qwen3_asr import Qwen3ASRProcessor, _fix_timestamps

    text = "It's 3 o'clock, 时代 is \u2014 here."
    words = Qwen3ASRProcessor.split_words_for_alignment(None, text)
    assert [unit for word in text.split() for unit in word_units(word)] == words
    folders = [aligner.directory, as_qwen_writes(aligner, tmp_path / "qwen")]
    (mark,) = aligner.tokens("<timestamp>")
    seen: set[int] = set()
    for folder in folders:
        ours = load_aligner(folder, torch.device("cpu"), ComputeType.FLOAT32)
        found = ours.times(waves(), [words] * len(waves()))
        for wave, times in zip(waves(), found, strict=True):
            prompt = "<|audio_start|><|audio_pad|><|audio_end|>" + "".join(f"{w}<timestamp><timestamp>" for w in words)
            inputs = aligner.inputs(wave, prompt)
            with torch.no_grad():
                labels = aligner.model(**inputs).logits[0].argmax(dim=-1)[inputs["input_ids"][0] == mark]
            seen |= set(labels.tolist())
            fixed = _fix_timestamps((labels.float() * 80).numpy())
            expected = [min(round(ms * 16), len(wave)) for ms in fixed]
            assert [place for pair in times for place in pair] == expected
    assert len(seen) > 3


def test_places_in_no_order_are_mended_as_transformers_mends_them() -> None:
    from transformers.models.qwen3_asr.processing_qwen3_asr import _fix_timestamps

    generator = np.random.default_rng(5)
    for length in [*range(1, 30), 60]:
        for most in (3, 20, 400):
            places = 80 * generator.integers(0, most, length)
            if length % 3:
                places = np.sort(places) + 80 * generator.integers(-2, 3, length)
            assert monotone(places.tolist()) == _fix_timestamps(places)


def test_an_aligner_gives_words_times_within_their_segment(asr: Published, aligner: Published) -> None:
    plain_model = recogniser_of(asr.directory)
    timed_model = load(ModelOptions(directory=asr.directory, aligner=aligner.directory, **FLOAT32))
    without = plain_model.recognise(segments(waves()), ["de"] * len(waves()), RAW)
    for segment, before, wave in zip(
        timed_model.recognise(segments(waves()), ["de"] * len(waves()), RAW), without, waves(), strict=True
    ):
        assert segment.text == before.text and not before.word_times and not before.words
        assert segment.word_times and [word.text for word in segment.words] == segment.text.split()
        edges = [place for word in segment.words for place in (word.start, word.end)]
        assert edges == sorted(edges) and 1.0 <= edges[0] and edges[-1] <= 1.0 + len(wave) / 16000
        assert all(word.confidence is not None and 0 < word.confidence <= 1 for word in segment.words)
    (other,) = timed_model.recognise(segments(waves()[:1]), ["pl"], RAW)
    assert other.text and not other.word_times


@pytest.mark.parametrize("layout", ["transformers", "qwen"])
def test_the_thinker_writes_what_transformers_writes(omni: Published, tmp_path: Path, layout: str) -> None:
    directory = omni.directory
    if layout == "qwen":
        # Vision and voice are there and never read: what is no float would be an error.
        beside = {name: torch.zeros(1, dtype=torch.int8) for name in ("talker.x", "code2wav.y", "thinker.visual.z")}
        directory = as_qwen_writes(omni, tmp_path, **beside)
    ours = recogniser_of(directory)
    stop = [omni.tokens(name)[0] for name in ("<|im_end|>", "<|endoftext|>")]
    assert not ours.detects_languages
    clip = waves()[:3]
    for language, task, asked, compared in (
        ("en", "transcribe", "Transcribe the English audio into text.", clip if layout == "transformers" else clip[:1]),
        (None, "transcribe", "Transcribe the audio into text.", clip[:1]),
        ("fr", "translate", "Listen to the provided French speech and produce a translation in English text.", []),
    ):
        options = TranscriptionOptions(itn=False, beam_size=1, guard=False, task=task)  # type: ignore[arg-type]
        prompt = (
            f"<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|>{asked}<|im_end|>\n<|im_start|>assistant\n"
        )
        together = ours.recognise(segments(clip), [language] * len(clip), options)
        assert [segment.language for segment in together] == [language] * 3
        for wave, batched in zip(compared, together, strict=False):
            theirs = omni.written(wave, prompt, limit(wave) + 2, stop)
            assert len(theirs) >= COUNT and len(set(theirs)) > 10
            (alone,) = ours.recognise(segments([wave]), [language], options)
            assert alone.spoken == batched.spoken == plain(omni.tokenizer.decode(theirs, skip_special_tokens=True))
        (told,) = ours._prefixes(segments(clip[:1]), [language], options)
        assert len(told) == omni.inputs(clip[0], prompt)["input_ids"].shape[1]


def test_published_sizes_have_the_names_and_shapes_of_transformers() -> None:
    def text(dim: int, ffn: int) -> dict[str, Any]:
        return {
            "model_type": "qwen3", "hidden_size": dim, "intermediate_size": ffn, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        }  # fmt: skip

    audio = {"d_model": 896, "encoder_layers": 18, "encoder_attention_heads": 14, "encoder_ffn_dim": 3584}
    small = Qwen3ASRConfig(audio_config={**audio, "output_dim": 1024}, text_config=text(1024, 3072))
    large = Qwen3ASRConfig(audio_config={"output_dim": 2048}, text_config=text(2048, 6144))
    thinker = Qwen3OmniMoeThinkerConfig(
        audio_config={"output_dim": 2048},
        text_config={
            "vocab_size": 152_064, "hidden_size": 2048, "intermediate_size": 768, "num_hidden_layers": 48,
            "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        },
    )  # fmt: skip
    for config, model_of, billions in (
        (small, Qwen3ASRForConditionalGeneration, 0.78),
        (large, Qwen3ASRForConditionalGeneration, 2.04),
        (thinker, Qwen3OmniMoeThinkerForConditionalGeneration, 31.2),
    ):
        with torch.device("meta"):
            reference = shapes_of(model_of(config))
        theirs = {name: shape for name, shape in reference.items() if "visual." not in name}
        ours = from_published(config.to_dict(), "config.json")
        expected = published_shapes(ours, find_names(reference, ours))
        assert expected == {n: s for n, s in theirs.items() if n != "lm_head.weight" or not ours.text.tied}
        total = sum(torch.Size(shape).numel() for shape in expected.values())
        assert total / 1e9 == pytest.approx(billions, rel=0.02)
