"""What a transcript depends on, by which a later run knows those that are done."""

import dataclasses

from fun_asr.batch.engine import TranscriberLoader
from fun_asr.options import ModelOptions, TranscriptionOptions


def test_what_is_done_stays_done_with_other_threads_and_batches_alone() -> None:
    loader = TranscriberLoader(ModelOptions(threads=1), TranscriptionOptions(batch_size=16))
    smaller = TranscriberLoader(ModelOptions(threads=2), TranscriptionOptions(batch_size=4))
    assert loader.fingerprint() == smaller.fingerprint()
    for change in ({"language": "de"}, {"beam_size": 1}, {"itn": False}):
        changed = dataclasses.replace(loader, options=dataclasses.replace(loader.options, **change))
        assert loader.fingerprint() != changed.fingerprint()
