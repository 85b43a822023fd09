"""SenseVoice here and in FunASR: the same frames, tokens and tags; what becomes of them."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from fun_asr.errors import CheckpointError
from fun_asr.models.published import Values
from fun_asr.models.sense_voice.config import NUM_QUERIES, SenseVoiceConfig, from_upstream, queries
from fun_asr.models.sense_voice.recogniser import SenseVoiceRecogniser, is_own, load
from fun_asr.models.sense_voice.weights import weight_table
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.text.hotwords import checked_hotwords
from tests.models.reference import SENTENCES, clips, segments, worst
from tests.models.sanm.upstream import FIXTURE, FRONT_END, tensors, write_folder, write_statistics

EXPECTED: dict[str, Any] = FIXTURE["sense_voice"]
FLOAT32: dict[str, Any] = {"device": "cpu", "compute_type": "float32"}
RAW = TranscriptionOptions(itn=False, punctuation=False)
TAGS = [
    "<|zh|>", "<|en|>", "<|yue|>", "<|ja|>", "<|ko|>", "<|nospeech|>", "<|HAPPY|>", "<|NEUTRAL|>", "<|EMO_UNKNOWN|>",
    "<|Speech|>", "<|BGM|>", "<|withitn|>", "<|woitn|>",
]  # fmt: skip


def write_model(directory: Path, **encoder: object) -> None:
    lines = [*SENTENCES, *(line.capitalize() for line in SENTENCES), "今天天气很好，我们去公园。"]
    (directory / "text.txt").write_text("\n".join(lines * 3), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(directory / "text.txt"), model_prefix=str(directory / "small.bpe"), vocab_size=EXPECTED["vocab"],
        model_type="bpe", bos_id=1, eos_id=2, unk_id=0, num_threads=1, minloglevel=2, character_coverage=1.0,
        user_defined_symbols=TAGS, normalization_rule_name="identity",
    )  # fmt: skip
    config = {
        "model": "SenseVoiceSmall",
        "encoder": "SenseVoiceEncoderSmall",
        "encoder_conf": {**EXPECTED["sizes"], **encoder},
        "model_conf": {"length_normalized_loss": True, "sos": 1, "eos": 2},
        "frontend": "WavFrontend",
        "frontend_conf": FRONT_END,
    }
    shapes = weight_table(from_upstream(Values(config, "config.yaml"), EXPECTED["vocab"])).shapes
    write_folder(directory, config, tensors(shapes))
    write_statistics(directory, 560)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("sense")
    write_model(found)
    return found


@pytest.fixture(scope="module")
def recogniser(directory: Path) -> SenseVoiceRecogniser:
    return load(ModelOptions(directory=directory, **FLOAT32))


def number(recogniser: SenseVoiceRecogniser, tag: str) -> int:
    return next(number for number, known in recogniser._tags.items() if known == tag)


def test_the_published_size_has_the_tensors_of_upstream() -> None:
    shapes = weight_table(SenseVoiceConfig()).shapes
    lines = "\n".join(f"{name} {list(shapes[name])}" for name in sorted(shapes))
    assert len(shapes) == EXPECTED["published"]["tensors"]
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == EXPECTED["published"]["parameters"]
    assert hashlib.sha256(lines.encode()).hexdigest() == EXPECTED["published"]["sha256"]


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda case: f"{case['language']}-{case['clip']}")
def test_frames_and_tokens_are_those_of_upstream(recogniser: SenseVoiceRecogniser, case: dict[str, Any]) -> None:
    language = None if case["language"] == "auto" else case["language"]
    wave = clips()[case["clip"]]
    with torch.inference_mode():
        encoded, lengths = recogniser.answered([wave], [queries(language, itn=case["itn"])])
        log_probs = recogniser.ctc_logits(encoded)[0].log_softmax(dim=-1)
    assert lengths.tolist() == [case["frames"]] and len(encoded[0]) == NUM_QUERIES + case["frames"]
    for frame, values in case["encoded"].items():
        assert worst(encoded[0, int(frame), :6], torch.tensor(values)) < 1e-4
    for frame, values in case["log_probs"].items():
        assert worst(log_probs[int(frame), :6], torch.tensor(values)) < 1e-4
    merged = torch.unique_consecutive(log_probs.argmax(dim=-1))
    assert merged[merged != 0].tolist() == case["tokens"]


def test_a_batch_gives_what_each_segment_gives_alone(recogniser: SenseVoiceRecogniser) -> None:
    waves = clips()
    languages = [None, "en", "zh", None, "ko", "xx", None]
    together = recogniser.recognise(segments(waves), languages, RAW)
    for wave, language, batched in zip(waves, languages, together, strict=True):
        (alone,) = recogniser.recognise(segments([wave]), [language], RAW)
        assert batched.text == alone.text and len(alone.text) > 5
        assert batched.language == alone.language is not None
        assert language in (None, batched.language)
        assert "<|" not in alone.text


def scripted(recogniser: SenseVoiceRecogniser, tags: list[str], frames: list[str], monkeypatch: Any) -> None:
    """Make the CTC head write pieces, "" being the blank, whatever is said."""
    pieces = recogniser._pieces
    tokens = [0 if not piece else pieces.find(piece) for piece in frames]
    assert None not in tokens
    answers = [number(recogniser, tag) for tag in tags]

    def logits(encoded: torch.Tensor) -> torch.Tensor:
        row = answers if encoded.shape[1] == NUM_QUERIES else tokens + [0] * (encoded.shape[1] - len(tokens))
        return 20.0 * torch.nn.functional.one_hot(torch.tensor([row]), EXPECTED["vocab"]).float()

    monkeypatch.setattr(recogniser, "ctc_logits", logits)


def test_tags_are_kept_apart_from_the_text(recogniser: SenseVoiceRecogniser, monkeypatch: Any) -> None:
    scripted(recogniser, ["zh", "HAPPY", "BGM", "withitn"], ["今", "", "天", "很", "好", "，", "好"], monkeypatch)
    (found,) = recogniser.recognise(segments(clips()[:1]), [None], TranscriptionOptions())
    assert (found.text, found.language, found.tags) == ("今天很好，好", "zh", {"emotion": "happy", "event": "bgm"})
    assert [word.text for word in found.words] == ["今", "天", "很", "好，", "好"]
    # A frame stacks 30 ms before its place; the segment starts after a second of the recording.
    assert [round(word.start, 3) for word in found.words] == [1.0, 1.09, 1.15, 1.21, 1.33]
    assert found.language_probability is not None and found.language_probability > 0.9


def test_an_unanswered_question_has_no_tag(recogniser: SenseVoiceRecogniser, monkeypatch: Any) -> None:
    scripted(recogniser, ["en", "EMO_UNKNOWN", "Speech", "woitn"], ["▁a", "n", "", "▁a"], monkeypatch)
    (found,) = recogniser.recognise(segments(clips()[:1]), ["en"], RAW)
    assert (found.text, found.tags) == ("an a", {"event": "speech"})
    assert [word.text for word in found.words] == ["an", "a"]
    assert found.language_probability is None


def test_what_the_model_hears_as_silence_has_no_text(recogniser: SenseVoiceRecogniser, monkeypatch: Any) -> None:
    scripted(recogniser, ["nospeech", "NEUTRAL", "BGM", "woitn"], ["▁a"], monkeypatch)
    (found,) = recogniser.recognise(segments(clips()[:1]), [None], RAW)
    assert (found.text, found.language) == ("", None)
    assert found.tags == {"emotion": "neutral", "event": "bgm"}
    unguarded = TranscriptionOptions(itn=False, punctuation=False, guard=False)
    (found,) = recogniser.recognise(segments(clips()[:1]), [None], unguarded)
    assert found.text == "a"


def test_only_the_languages_that_are_looked_for_are_detected(recogniser: SenseVoiceRecogniser) -> None:
    options = TranscriptionOptions(itn=False, punctuation=False, languages=("ja", "ko"))
    found = recogniser.recognise(segments(clips()), [None] * 7, options)
    assert {segment.language for segment in found} <= {"ja", "ko"}


def test_hotwords_of_both_scripts_can_be_spelt(recogniser: SenseVoiceRecogniser) -> None:
    recogniser.prepare(TranscriptionOptions(hotwords=checked_hotwords(["公园", "the"])))
    assert recogniser._pieces.encode("公园") == [recogniser._pieces.find("公"), recogniser._pieces.find("园")]


def test_statistics_are_applied_where_the_folder_has_them(directory: Path, tmp_path: Path) -> None:
    for path in directory.iterdir():
        if path.name != "am.mvn":
            (tmp_path / path.name).symlink_to(path)
    plain = load(ModelOptions(directory=tmp_path, **FLOAT32))
    other = load(ModelOptions(directory=directory, **FLOAT32))
    with torch.inference_mode():
        assert worst(plain.encode(clips()[:1])[0], other.encode(clips()[:1])[0]) > 0.1


@pytest.mark.parametrize(("compute_type", "close"), [("bfloat16", 0.05), ("int8", 0.08)])
def test_narrow_arithmetic_stays_close(
    directory: Path, recogniser: SenseVoiceRecogniser, compute_type: str, close: float
) -> None:
    narrow = load(ModelOptions(directory=directory, device="cpu", compute_type=compute_type))
    for wave in clips()[:2]:
        with torch.inference_mode():
            expected, found = recogniser.encode([wave])[0], narrow.encode([wave])[0].float()
        assert (found - expected).norm() < close * expected.norm()


def test_a_checkpoint_of_training_is_read(directory: Path, tmp_path: Path, recogniser: SenseVoiceRecogniser) -> None:
    for path in directory.iterdir():
        if path.name != "model.pt":
            (tmp_path / path.name).symlink_to(path)
    state = torch.load(directory / "model.pt", weights_only=True)
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, tmp_path / "model.pt")
    (found,) = load(ModelOptions(directory=tmp_path, **FLOAT32)).recognise(segments(clips()[:1]), [None], RAW)
    assert found == recogniser.recognise(segments(clips()[:1]), [None], RAW)[0]


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_damaged_folders_are_refused_by_name(directory: Path, tmp_path: Path) -> None:
    def changed(name: str, content: bytes | None) -> str:
        for path in directory.iterdir():
            place = tmp_path / path.name
            place.unlink(missing_ok=True)
            if path.name != name:
                place.symlink_to(path)
            elif content is not None:
                place.write_bytes(content)
        with pytest.raises(CheckpointError) as error:
            load(ModelOptions(directory=tmp_path, **FLOAT32))
        return str(error.value)

    assert "model.pt" in changed("model.pt", None)
    assert "model.pt" in changed("model.pt", (directory / "model.pt").read_bytes()[:5000])
    torch.save({"encoder": Code()}, tmp_path / "code.pt", pickle_module=pickle)
    assert "nothing of it was run" in changed("model.pt", (tmp_path / "code.pt").read_bytes())
    assert not Path("ran").exists()
    assert "am.mvn" in changed("am.mvn", b"<AddShift> 560 560\n<LearnRateCoef> 0 [ 1 2 ]\n")
    assert "SentencePiece" in changed("small.bpe.model", b"no model")
    config = (directory / "config.yaml").read_text("utf-8")
    assert "lfr_n" in changed("config.yaml", config.replace("lfr_n: 6", "lfr_n: 5").encode())
    assert "kernel_size" in changed("config.yaml", config.replace("kernel_size: 11", "kernel_size: 10").encode())
    assert "encoders.1" in changed("config.yaml", config.replace("num_blocks: 3", "num_blocks: 2").encode())
    assert is_own(directory) and not is_own(tmp_path / "nothing")
