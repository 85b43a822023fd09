"""Recordings over HTTP, driven by OpenAI's own client."""

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
import openai
import pytest

from fun_asr.audio.prefetch import AudioSegment
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.options import TranscriptionOptions
from fun_asr.server.limits import ServerLimits
from tests.server.conftest import Running, wav
from tests.streaming.conftest import ToneRecogniser

Start = Callable[..., Running]
TALK = "one two three . . . . . . four five"
TEXT = "one two three four five"


class Gate(ToneRecogniser):
    """Hears nothing until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.reached = threading.Event()
        self.batches: list[int] = []
        self.options: list[TranscriptionOptions] = []

    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        self.reached.set()
        self.open.wait(20)
        self.batches.append(len(segments))
        self.options.append(options)
        return super().recognise(segments, languages, options, priors)


def opened() -> Gate:
    gate = Gate()
    gate.open.set()
    return gate


def eventually(true: Callable[[], bool]) -> bool:
    for _ in range(400):
        if true():
            return True
        time.sleep(0.01)
    return False


def test_openai_s_client_gets_every_format(server: Running) -> None:
    create = server.client().audio.transcriptions.create
    assert create(file=wav(TALK), model="whisper-1").text == TEXT
    assert create(file=wav(TALK), model="whisper-1", response_format="text") == f"{TEXT}\n"
    srt = create(file=wav(TALK), model="whisper-1", response_format="srt")
    assert srt.startswith("1\n00:00:00,") and "one two three" in srt
    assert create(file=wav(TALK), model="whisper-1", response_format="vtt").startswith("WEBVTT\n")


def test_verbose_json_has_segments_and_words(server: Running) -> None:
    create = server.client().audio.transcriptions.create
    found = create(
        file=wav(TALK), model="x", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert (found.language, found.text) == ("english", TEXT)
    assert found.duration == pytest.approx(len(wav(TALK)[1]) / 32000, abs=0.01)
    assert [word.word for word in found.words or []] == TEXT.split()
    assert (found.words or [])[0].start == pytest.approx(0.5, abs=0.02)
    assert [segment.text for segment in found.segments or []] == [" one two three", " four five"]
    alone = create(file=wav(TALK), model="x", response_format="verbose_json")
    assert alone.words is None and len(alone.segments or []) == 2


def test_events_come_as_the_recording_is_understood(server: Running) -> None:
    stream = server.client().audio.transcriptions.create(file=wav(TALK), model="x", stream=True)
    events = list(stream)
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == TEXT
    assert events[-1].type == "transcript.text.done" and events[-1].text == TEXT


def test_models_are_listed(server: Running) -> None:
    assert [model.id for model in server.client().models.list()] == ["fun-asr"]
    assert server.client().models.retrieve("fun-asr").owned_by == "fun-asr"
    with pytest.raises(openai.NotFoundError, match="fun-asr"):
        server.client().models.retrieve("whisper-1")


def test_what_is_asked_for_reaches_the_model(start: Start) -> None:
    gate = opened()
    create = start(gate).client().audio.transcriptions.create
    create(file=wav("one"), model="x", language="German", prompt="Kubernetes, Ada Lovelace")
    assert [hotword.phrase for hotword in gate.options[0].hotwords] == ["Kubernetes", "Ada Lovelace"]
    assert (gate.options[0].language, gate.options[0].initial_prompt) == ("de", "")
    create(file=wav("one"), model="x", prompt="We spoke about the weather in the south of France.")
    assert gate.options[1].initial_prompt == "We spoke about the weather in the south of France."


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"language": "klingon"}, "language"),
        ({"language": "fr"}, "fr"),
        ({"temperature": 7}, "temperature"),
        ({"response_format": "docx"}, "response_format"),
        ({"timestamp_granularities": ["letter"]}, "letter"),
        ({"prompt": "x" * 5000}, "prompt"),
    ],
)
def test_what_cannot_be_followed_is_refused(server: Running, fields: dict[str, object], named: str) -> None:
    with pytest.raises(openai.BadRequestError, match=named):
        server.client().audio.transcriptions.create(file=wav("one"), model="x", **fields)  # type: ignore[call-overload]


@pytest.mark.filterwarnings("ignore:deprecated")
def test_translation_needs_a_model_that_can(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="translate"):
        server.client().audio.translations.create(file=wav("one"), model="x")


@pytest.mark.parametrize("content", [b"", b"no recording at all" * 100])
def test_what_is_no_recording_is_refused_without_a_path(server: Running, content: bytes) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().audio.transcriptions.create(file=("../../etc/passwd", content), model="x")
    assert "/" not in str(caught.value.body) and "passwd" not in str(caught.value.body)


def test_a_broken_stream_says_so_in_an_event(server: Running) -> None:
    with pytest.raises(openai.APIError, match="recording"):
        list(server.client().audio.transcriptions.create(file=("a.wav", b"junk" * 99), model="x", stream=True))


@pytest.mark.parametrize("headers", [{}, {"content-type": "multipart/form-data"}, {"content-type": "text/plain"}])
def test_half_a_form_is_refused(server: Running, headers: dict[str, str]) -> None:
    found = httpx.post(f"{server.url}/v1/audio/transcriptions", content=b"--x\r\nContent-Dis", headers=headers)
    assert found.status_code == 400 and found.json()["error"]["type"] == "invalid_request_error"


def test_the_key_is_asked_for_where_there_is_one(start: Start) -> None:
    server = start(key="secret ключ")
    with pytest.raises(openai.AuthenticationError):
        server.client("wrong").models.list()
    found = httpx.get(f"{server.url}/v1/models", headers={"authorization": "Bearer secret ключ".encode()})
    assert found.status_code == 200
    assert httpx.get(f"{server.url}/metrics").status_code == 401
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


def test_a_long_body_is_refused_before_it_is_read(start: Start) -> None:
    server = start(limits=ServerLimits(upload=100_000, drain=1))
    with socket.create_connection(server.address.split(":")) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 3000000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")

    def pieces() -> object:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(30):
            yield bytes(10_000)

    form = {"content-type": "multipart/form-data; boundary=b"}
    found = httpx.post(f"{server.url}/v1/audio/transcriptions", content=pieces(), headers=form)  # type: ignore[arg-type]
    assert found.status_code == 413
    assert server.engine.requests == 0


def test_a_body_that_does_not_come_is_given_up(start: Start) -> None:
    server = start(limits=ServerLimits(idle=0.2, drain=1))
    with socket.create_connection(server.address.split(":")) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 3000\r\n\r\n--b\r\n"
        )
        connection.settimeout(5)
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert eventually(lambda: server.engine.requests == 0)


def test_who_goes_in_the_midst_of_a_form_is_no_fault_of_the_server(start: Start) -> None:
    server = start()
    with socket.create_connection(server.address.split(":")) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b'Content-Length: 3000\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )
        assert eventually(lambda: server.engine.requests == 1)
    assert eventually(lambda: server.engine.requests == 0)
    counted = httpx.get(f"{server.url}/metrics").text
    assert 'status="499"' in counted and 'status="500"' not in counted


def test_more_than_the_queue_holds_is_told_to_come_back(start: Start) -> None:
    gate = Gate()
    server = start(gate, limits=ServerLimits(requests=1, drain=1))
    results = []
    thread = threading.Thread(
        target=lambda: results.append(server.client().audio.transcriptions.create(file=wav("one"), model="x").text)
    )
    thread.start()
    assert gate.reached.wait(10)
    with pytest.raises(openai.RateLimitError) as caught:
        server.client().audio.transcriptions.create(file=wav("two"), model="x")
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert httpx.get(f"{server.url}/ready").status_code == 503
    gate.open.set()
    thread.join()
    assert results == ["one"]
    assert httpx.get(f"{server.url}/ready").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_frees_the_model(start: Start, stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gate = Gate()
    server = start(gate)
    with pytest.raises(openai.APITimeoutError):
        list(
            server.client()
            .with_options(timeout=1)
            .audio.transcriptions.create(file=wav("one"), model="x", stream=stream)
        )
    gate.open.set()
    assert eventually(lambda: server.engine.requests == 0)
    assert server.client().audio.transcriptions.create(file=wav("two"), model="x").text == "two"
    assert eventually(lambda: not list(tmp_path.iterdir()))


def test_clients_share_batches_and_get_their_own_texts(start: Start) -> None:
    gate = Gate()
    server = start(gate)
    names = ["one", "two", "three", "four", "five", "six"]
    texts: dict[str, str] = {}

    def ask(name: str) -> None:
        texts[name] = server.client().audio.transcriptions.create(file=wav(f"{name} {name}"), model="x").text

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    threads[0].start()
    assert gate.reached.wait(10)
    for thread in threads[1:]:
        thread.start()
    assert eventually(lambda: server.engine.gauges()["fun_asr_queue_segments"] == len(names) - 1)
    gate.open.set()
    for thread in threads:
        thread.join()
    assert texts == {name: f"{name} {name}" for name in names}
    assert gate.batches == [1, 5]


def test_metrics_count(server: Running) -> None:
    server.client().audio.transcriptions.create(file=wav("one"), model="x")
    httpx.get(f"{server.url}/no/such/page")
    text = httpx.get(f"{server.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert int(values['fun_asr_requests_total{route="/v1/audio/transcriptions",status="200"}']) >= 1
    assert int(values['fun_asr_requests_total{route="other",status="404"}']) >= 1
    assert float(values["fun_asr_audio_seconds_total"]) > 0
    assert values["fun_asr_requests_active"] == "0"
