"""Error rates of a model in training."""

import dataclasses
from pathlib import Path

import jiwer
import pytest
import torch

from fun_asr.models.fun_asr.load import load_network
from fun_asr.text.normalize import get_normalizer
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.training.data import Collator, read_manifest
from fun_asr.training.evaluation import evaluate
from fun_asr.transcriber import load_model
from fun_asr.weights.directory import CTC_TOKENIZER_FILE, TOKENIZER_FILE
from fun_asr.weights.precision import ComputeType

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("bad", [False, True])
def test_rates_are_those_of_greedy_transcripts_and_unreadable_clips_leave_no_trace(
    tiny_model_dir: Path, tmp_path: Path, bad: bool
) -> None:
    utterances = read_manifest(DATA / "speech.jsonl")[:3]
    tokenizer, pieces = Tokenizer(tiny_model_dir / TOKENIZER_FILE), CTCTokenizer(tiny_model_dir / CTC_TOKENIZER_FILE)
    cpu = torch.device("cpu")
    network = load_network(tiny_model_dir, cpu, ComputeType.FLOAT32)
    collate = Collator(tokenizer, pieces, n_mels=80, max_tokens=24)
    # The shortest, so that it stands before the others.
    broken = dataclasses.replace(utterances[0], audio_filepath=tmp_path / "none.wav", duration=0.1)
    found = evaluate(network, [*utterances, *[broken] * bad], collate, tokenizer, pieces, cpu)

    transcriber = load_model(tiny_model_dir, device="cpu", compute_type="float32")
    normalize = get_normalizer("english")
    references = [normalize(utterance.text) for utterance in utterances]
    outputs = [
        transcriber.transcribe_samples(wave, language="en", beam_size=1, itn=False).spoken
        for wave in collate.read(utterances, None)[1]  # type: ignore[arg-type]
    ]
    assert found.wer == pytest.approx(100 * jiwer.wer(references, [normalize(output) for output in outputs]))
    assert found.ctc_wer > 0
