"""Error rates of a model in training."""

import dataclasses
from pathlib import Path

import jiwer
import pytest

from fun_asr.text.normalize import get_normalizer
from fun_asr.training.config import Source, TrainConfig
from fun_asr.training.data import read_manifest
from fun_asr.training.evaluation import evaluate
from fun_asr.training.trainees.load import load_trainee
from fun_asr.transcriber import load_model

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("bad", [False, True])
def test_rates_are_those_of_greedy_transcripts_and_unreadable_clips_leave_no_trace(
    tiny_model_dir: Path, tmp_path: Path, bad: bool
) -> None:
    utterances = read_manifest(DATA / "speech.jsonl")[:3]
    # The shortest, so that it stands before the others.
    broken = dataclasses.replace(utterances[0], audio_filepath=tmp_path / "none.wav", duration=0.1)
    trainee = load_trainee(tiny_model_dir, TrainConfig(init="", output_dir="", train=(Source(manifest=""),)))
    reader = trainee.reader()
    found = evaluate(trainee.recognise, [*utterances, *[broken] * bad], reader)

    transcriber = load_model(tiny_model_dir, device="cpu", compute_type="float32")
    normalize = get_normalizer("english")
    references = [normalize(utterance.text) for utterance in utterances]
    outputs = [
        transcriber.transcribe_samples(wave, language="en", beam_size=1, itn=False).spoken
        for wave in reader.read(utterances, None)[1]  # type: ignore[arg-type]
    ]
    assert found["wer"] == pytest.approx(100 * jiwer.wer(references, [normalize(output) for output in outputs]))
    assert found["ctc_wer"] > 0
