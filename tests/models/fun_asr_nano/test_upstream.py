"""Fun-ASR-Nano here and in FunASR: the same frames, prompts, tokens and times; with and without a CTC branch."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from fun_asr.cli import main
from fun_asr.decoding.prefixed import continue_prefixes
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.models.fun_asr_nano.config import CTCConfig, NanoConfig
from fun_asr.models.fun_asr_nano.prompt import LANGUAGE_NAMES
from fun_asr.models.fun_asr_nano.recogniser import NanoRecogniser, is_own, load
from fun_asr.models.fun_asr_nano.times import timed_words
from fun_asr.models.fun_asr_nano.weights import weight_table
from fun_asr.models.registry import identify
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.text.hotwords import checked_hotwords
from tests.models.fun_asr_nano.folders import write_model
from tests.models.reference import clips, segments, worst
from tests.models.sanm.upstream import FIXTURE

EXPECTED: dict[str, Any] = FIXTURE["fun_asr_nano"]
FLOAT32: dict[str, Any] = {"device": "cpu", "compute_type": "float32"}
CODES = {name: code for code, name in LANGUAGE_NAMES.items()}
GREEDY = TranscriptionOptions(beam_size=1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("nano")
    write_model(found)
    return found


@pytest.fixture(scope="module")
def recogniser(directory: Path) -> NanoRecogniser:
    return load(ModelOptions(directory=directory, **FLOAT32))


def listed(config: NanoConfig) -> dict[str, Any]:
    shapes: dict[str, tuple[int, ...]] = weight_table(config, upstream=True).shapes
    shapes["llm.lm_head.weight"] = shapes["llm.model.embed_tokens.weight"]  # stored though it is the same
    lines = "\n".join(f"{name} {list(shapes[name])}" for name in sorted(shapes))
    return {"tensors": len(shapes), "sha256": hashlib.sha256(lines.encode()).hexdigest()}


def test_the_published_sizes_have_the_tensors_of_upstream() -> None:
    assert listed(NanoConfig()) == EXPECTED["published_without_ctc"]
    assert listed(NanoConfig(ctc=CTCConfig())) == EXPECTED["published"]
    shapes = weight_table(NanoConfig(), upstream=True).shapes.values()
    assert sum(torch.Size(shape).numel() for shape in shapes) == EXPECTED["parameters"]


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda case: str(case["clip"]))
def test_frames_and_tokens_are_those_of_upstream(recogniser: NanoRecogniser, case: dict[str, Any]) -> None:
    options = TranscriptionOptions(itn=case["itn"], hotwords=checked_hotwords(case["hotwords"]), beam_size=1)
    segment = segments(clips())[case["clip"]]
    network = recogniser.network
    with torch.inference_mode():
        encoded = recogniser.encode({0: segment})[0]
        length = torch.tensor([len(encoded)])
        adapted, read = network.adaptor(encoded[None], length)[0], recogniser.adapted(encoded)
        log_probs = network.ctc_logits(encoded[None], length)[0].log_softmax(dim=-1)
        prefix = recogniser.prefix(CODES.get(case["language"]), options, read)
        (found,) = continue_prefixes(network.language_model, prefix, [len(prefix)], [40], recogniser._search)
    assert len(encoded) == case["frames"]
    for values, ours in ((case["encoded"], encoded), (case["adapted"], adapted), (case["ctc"], log_probs)):
        for frame, numbers in values.items():
            assert worst(ours[int(frame), :6], torch.tensor(numbers)) < 1e-4
    # Upstream writes zeros where the speech goes; all other positions are those tokens' vectors.
    source = torch.tensor(case["source"])
    speech = len(recogniser.prompt(CODES.get(case["language"]), options)[0])
    expected = network.language_model.embed(source)
    expected[speech : speech + len(read)] = read
    assert torch.equal(prefix, expected)
    assert found.tokens == case["tokens"][: len(found.tokens)] and len(found.tokens) == 40


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda case: str(case["clip"]))
def test_words_lie_where_upstream_aligns_them(recogniser: NanoRecogniser, case: dict[str, Any]) -> None:
    text = "the quick fox 今天天气"
    tokenizer = recogniser._ctc_tokenizer
    assert tokenizer is not None and tokenizer.encode(text) == case["targets"]
    segment = segments(clips())[case["clip"]]
    with torch.inference_mode():
        log_probs = recogniser._ctc(recogniser.encode({0: segment})[0])
    words = timed_words(text, log_probs, *recogniser._ctc_vocabulary(), len(segment.samples))
    assert [word.text for word in words] == ["the", "quick", "fox", "今", "天", "天", "气"]
    frames = [[word.start / 960, word.end / 960] for word in words]
    times = case["times"]
    pieces = [tokenizer.token(token).decode("utf-8", "replace") for token in case["targets"]]
    # A token is "the", " quick", "今天"; what shares one shares its time.
    assert frames[0] == times[0] and frames[1] == times[1]
    assert frames[2][1] == times[pieces.index("ox")][1]
    low, high = times[pieces.index("今天")]
    assert frames[3:5] == [[low, (low + high) / 2], [(low + high) / 2, high]]


def test_a_batch_gives_what_each_segment_gives_alone(recogniser: NanoRecogniser) -> None:
    parts = segments(clips())
    languages = [None, "en", "zh", None, "ja", "sv", None]
    together = recogniser.recognise(parts, languages, GREEDY)
    for segment, language, batched in zip(parts, languages, together, strict=True):
        (alone,) = recogniser.recognise([segment], [language], GREEDY)
        assert batched.text == alone.text
        assert [(word.text, word.start, word.end) for word in batched.words] == [
            (word.text, word.start, word.end) for word in alone.words
        ]
        assert batched.score == pytest.approx(alone.score, abs=1e-4)
    assert any(found.text for found in together)


def test_all_vectors_are_read_where_the_configuration_says_so(directory: Path, tmp_path: Path) -> None:
    write_model(tmp_path, use_low_frame_rate=False)
    every = load(ModelOptions(directory=tmp_path, **FLOAT32))
    first = load(ModelOptions(directory=directory, **FLOAT32))
    segment = segments(clips())[0]
    with torch.inference_mode():
        encoded = first.encode({0: segment})[0]
        assert len(every.adapted(encoded)) == len(encoded)
        assert len(first.adapted(encoded)) == -(-len(encoded) // 8)


def test_without_a_ctc_branch_words_have_no_times_and_it_is_said(tmp_path: Path, recogniser: NanoRecogniser) -> None:
    write_model(tmp_path, ctc=False)
    plain = load(ModelOptions(directory=tmp_path, **FLOAT32))
    assert plain.info.notes == ("words have no times: these weights have no CTC branch",)
    assert recogniser.info.notes == ()
    found, timed = (model.recognise(segments(clips()[:2]), ["zh", None], GREEDY) for model in (plain, recogniser))
    assert [segment.text for segment in found] == [segment.text for segment in timed]
    assert not any(segment.words or segment.word_times for segment in found)
    assert plain.info.to_dict()["notes"] == list(plain.info.notes)
    with pytest.raises(ConfigError, match="no CTC branch"):
        plain.prepare(replace(GREEDY, decoding="ctc", beam_size=3))


def test_a_branch_without_its_vocabulary_gives_text(directory: Path, tmp_path: Path) -> None:
    for path in directory.iterdir():
        if path.name != "multilingual.tiktoken":
            (tmp_path / path.name).symlink_to(path)
    found = load(ModelOptions(directory=tmp_path, **FLOAT32))
    assert "multilingual.tiktoken" in found.info.notes[0]
    assert found.network.ctc_head is None
    assert not found.recognise(segments(clips()[:1]), [None], GREEDY)[0].words


def test_ctc_decoding_reads_the_branch_alone(recogniser: NanoRecogniser, monkeypatch: Any) -> None:
    tokenizer = recogniser._ctc_tokenizer
    assert tokenizer is not None
    tokens, blank = tokenizer.encode("今天 the fox"), recogniser._ctc_vocabulary()[1]
    path = [token for token in tokens for token in (token, token, blank)]

    def logits(encoded: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        row = torch.tensor(path + [blank] * (encoded.shape[1] - len(path)))
        return 30.0 * torch.nn.functional.one_hot(row, blank + 1).float()[None]

    monkeypatch.setattr(recogniser.network, "ctc_logits", logits)
    options = TranscriptionOptions(decoding="ctc")
    recogniser.prepare(options)
    (found,) = recogniser.recognise(segments(clips()[:1]), [None], options)
    assert (found.text, found.language) == ("今天 the fox", None)  # half of it is in no script of one language
    assert [word.text for word in found.words] == ["今", "天", "the", "fox"]
    # The segment starts after a second of its recording; a token has two frames of 60 ms.
    assert [(round(word.start, 2), round(word.end, 2)) for word in found.words[:2]] == [(1.0, 1.06), (1.06, 1.12)]
    assert found.words[-1].confidence == pytest.approx(1.0, abs=1e-3)


def test_the_context_and_hotwords_stand_in_the_prompt(recogniser: NanoRecogniser) -> None:
    options = TranscriptionOptions(
        hotwords=checked_hotwords(["开放时间", "fox"]), initial_prompt="昨天的会议", itn=False
    )
    recogniser.prepare(options)
    before, after = recogniser.prompt("ja", options)
    text = recogniser._tokenizer.decode(before)
    assert text.endswith("昨天的会议\n热词列表：[开放时间, fox]\n语音转写成日文，不进行文本规整：")
    assert text.startswith("system\nYou are a helpful assistant.\nuser\n请结合")
    start, end, think, done = (
        recogniser._tokenizer.special(name) for name in ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
    )
    assert [token for token in before if token > 255] == [start, end, start]
    assert [token for token in after if token > 255] == [end, start, think, done]
    plain = recogniser.prompt(None, GREEDY)[0]
    assert recogniser._tokenizer.decode(plain).endswith("user\n语音转写：")


def test_what_looks_like_a_special_token_in_the_context_is_text(recogniser: NanoRecogniser) -> None:
    options = TranscriptionOptions(initial_prompt="[<|im_end|>]")
    before, _ = recogniser.prompt(None, options)
    assert before.count(recogniser._tokenizer.special("<|im_end|>")) == 1
    assert "[<|im_end|>]" in recogniser._tokenizer.decode(before)


@pytest.mark.parametrize("compute_type", ["bfloat16", "int8", "int4"])
def test_narrow_arithmetic_stays_close(directory: Path, recogniser: NanoRecogniser, compute_type: str) -> None:
    narrow = load(ModelOptions(directory=directory, device="cpu", compute_type=compute_type))
    assert compute_type in narrow.info.arithmetic["language_model"]
    for i, segment in enumerate(segments(clips()[:2])):
        with torch.inference_mode():
            expected, found = (model.adapted(model.encode({i: segment})[i]).float() for model in (recogniser, narrow))
        assert (found - expected).norm() < 0.08 * expected.norm()
    with pytest.raises(ConfigError, match=r"float16|GPU"):
        load(ModelOptions(directory=directory, device="cpu", compute_type="float16"))


@pytest.mark.parametrize("compute_type", ["int8", "int4"])
def test_a_small_folder_computes_as_its_origin(directory: Path, tmp_path: Path, compute_type: str) -> None:
    small = tmp_path / "small"
    result = CliRunner().invoke(main, ["convert", compute_type, str(directory), str(small)])
    assert result.exit_code == 0, result.stderr
    assert not (small / "model.pt").exists() and identify(small).name == "fun_asr_nano"
    first, second = (
        load(ModelOptions(directory=folder, device="cpu", compute_type=kind))
        for folder, kind in ((directory, compute_type), (small, "auto" if compute_type == "int4" else compute_type))
    )
    with torch.inference_mode():
        (segment,) = segments(clips()[:1])
        expected, found = (model.adapted(model.encode({0: segment})[0]).float() for model in (first, second))
        # Where bfloat16 is fast, the speech encoder computes in it: of an int8 folder with weights that were rounded.
        close = 0.0 if compute_type == "int4" else 0.05
        assert (found - expected).norm() <= close * expected.norm()
        expected, found = (
            model.language_model(model.language_model.embed(torch.arange(40)), [40])
            for model in (first.network, second.network)
        )
        assert torch.equal(expected, found)
    before, after = (sum(p.stat().st_size for p in folder.rglob("*")) for folder in (directory, small))
    assert after < before


def test_damaged_folders_are_refused_by_name(directory: Path, tmp_path: Path) -> None:
    def changed(name: str, content: bytes | None) -> str:
        for path in sorted(directory.rglob("*")):
            place = tmp_path / path.relative_to(directory)
            if path.is_dir():
                place.mkdir(exist_ok=True)
                continue
            place.unlink(missing_ok=True)
            if str(path.relative_to(directory)) != name:
                place.symlink_to(path)
            elif content is not None:
                place.write_bytes(content)
        with pytest.raises(CheckpointError) as error:
            load(ModelOptions(directory=tmp_path, **FLOAT32))
        (line,) = str(error.value).splitlines()
        return line

    assert "Qwen3-0.6B/config.json" in changed("Qwen3-0.6B/config.json", None)
    assert "tokenizer.json" in changed("Qwen3-0.6B/tokenizer.json", None)
    assert "Qwen3-0.6B" in changed("Qwen3-0.6B/tokenizer.json", b'{"model": 1}')
    assert "multilingual.tiktoken" in changed("multilingual.tiktoken", b"IQ== 0\n")
    assert "model.pt" in changed("model.pt", (directory / "model.pt").read_bytes()[:9000])
    config = (directory / "config.yaml").read_text("utf-8")
    assert "downsample_rate" in changed(
        "config.yaml", config.replace("downsample_rate: 1", "downsample_rate: 2").encode()
    )
    assert "encoders.1" in changed("config.yaml", config.replace("num_blocks: 3", "num_blocks: 2").encode())
    text = json.loads((directory / "Qwen3-0.6B" / "config.json").read_text())
    changed_text = json.dumps({**text, "num_hidden_layers": 3}).encode()
    assert "llm.model.layers.2" in changed("Qwen3-0.6B/config.json", changed_text)
    state = torch.load(directory / "model.pt", weights_only=True)
    state["llm.lm_head.weight"] = state["llm.lm_head.weight"] + 1
    torch.save(state, tmp_path / "head.pt")
    assert "llm.lm_head.weight differs" in changed("model.pt", (tmp_path / "head.pt").read_bytes())


def test_the_family_is_found_by_its_configuration(directory: Path) -> None:
    assert is_own(directory) and identify(directory).name == "fun_asr_nano"
