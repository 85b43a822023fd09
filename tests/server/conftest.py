"""A server in this process, whose model hears tones."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import openai
import pytest
import soundfile
import uvicorn
from starlette.applications import Starlette

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.vad import SpeechDetector
from fun_asr.options import TranscriptionOptions
from fun_asr.server.app import make_app
from fun_asr.server.engine import Engine
from fun_asr.server.limits import ServerLimits
from fun_asr.transcriber import Transcriber
from tests.conftest import loudness_detector
from tests.streaming.conftest import Samples, ToneRecogniser, spoken

__all__ = ["Running", "pcm16", "running", "wav"]


class Running:
    """A server that listens."""

    def __init__(self, engine: Engine, app: Starlette, port: int) -> None:
        self.engine = engine
        self.engine_app = app
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=20)


@contextmanager
def running(
    recogniser: ToneRecogniser | None = None, *, key: str | None = None, limits: ServerLimits | None = None
) -> Iterator[Running]:
    detector = SpeechDetector()
    detector.load_state_dict(loudness_detector())
    engine = Engine(
        Transcriber(recogniser or ToneRecogniser(), detector.eval()),
        TranscriptionOptions(),
        limits or ServerLimits(drain=2),
    )
    app = make_app(engine, key)
    config = uvicorn.Config(app, port=0, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    started = threading.Event()
    thread = threading.Thread(target=_run, args=(server, started))
    thread.start()
    while not server.started and thread.is_alive():
        started.wait(0.01)
    try:
        yield Running(engine, app, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


def _run(server: uvicorn.Server, started: threading.Event) -> None:
    server.run()
    started.set()


def wav(words: str) -> tuple[str, bytes]:
    """A file as the openai package takes it."""
    file = io.BytesIO()
    soundfile.write(file, spoken(words), SAMPLE_RATE, format="wav")
    return "talk.wav", file.getvalue()


def pcm16(samples: Samples, rate: int = SAMPLE_RATE) -> bytes:
    """Little-endian 16-bit samples at a rate."""
    at_rate = np.interp(np.arange(0, len(samples), SAMPLE_RATE / rate), np.arange(len(samples)), samples)
    return (at_rate * 32767).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Servers with other limits, ended with the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(running(*arguments, **options))
