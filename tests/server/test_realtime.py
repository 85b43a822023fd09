"""Speech over OpenAI's realtime WebSocket, driven by OpenAI's own client."""

import base64
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fun_asr.server.limits import ServerLimits
from fun_asr.server.spoken import alaw, mulaw
from tests.server.conftest import Running, pcm16
from tests.streaming.conftest import spoken

Start = Callable[..., Running]
TALK = "one two three four five . . . six seven . . ."
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"


def pieces(sound: bytes, size: int = 4800) -> Iterator[str]:
    for start in range(0, len(sound), size):
        yield base64.b64encode(sound[start : start + size]).decode()


def until(connection: Any, kind: str, count: int = 1) -> list[Any]:
    """The events up to a number of one kind."""
    found = []
    while count:
        found.append(connection.recv())
        assert found[-1].type != "error", found[-1]
        count -= found[-1].type == kind
    return found


def settings(**audio: object) -> Any:
    return {"type": "transcription", "audio": {"input": audio}}


def test_openai_s_client_gets_deltas_and_utterances(server: Running) -> None:
    with server.client().realtime.connect(model="x", extra_query={"intent": "transcription"}) as connection:
        assert connection.recv().type == "session.created"
        detection = {"type": "server_vad", "silence_duration_ms": 500}
        connection.session.update(
            session=settings(transcription={"model": "x", "language": "en"}, turn_detection=detection)
        )
        assert connection.recv().type == "session.updated"
        for piece in pieces(pcm16(spoken(TALK), 24_000)):
            connection.input_audio_buffer.append(audio=piece)
        events = until(connection, COMPLETED, 2)
    assert [event.transcript for event in events if event.type == COMPLETED] == ["one two three four five", "six seven"]
    started = [event for event in events if event.type == "input_audio_buffer.speech_started"]
    assert len(started) == 2 and started[0].audio_start_ms == pytest.approx(500, abs=450)
    assert len({event.item_id for event in started}) == 2
    kinds = [event.type.rsplit(".", 1)[-1] for event in events if event.item_id == started[0].item_id]
    assert kinds[0] == "speech_started" and kinds[-3:] == ["speech_stopped", "committed", "completed"]


def test_deltas_are_the_words_that_stay(server: Running) -> None:
    import time

    with server.client().realtime.connect(model="x", extra_query={"intent": "transcription"}) as connection:
        for piece in pieces(pcm16(spoken(TALK), 24_000), 9600):
            connection.input_audio_buffer.append(audio=piece)
            # Slower than the stream's thread, so that no piece is late.
            time.sleep(0.02)
        events = until(connection, COMPLETED, 2)
    first = next(event.item_id for event in events if event.type == DELTA)
    said = "".join(event.delta for event in events if event.type == DELTA and event.item_id == first)
    assert "one two three four five".startswith(said) and said.startswith("one two")


@pytest.mark.parametrize(("coding", "rate"), [("audio/pcm", 24_000), ("audio/pcmu", 8_000), ("audio/pcma", 8_000)])
def test_a_client_that_commits_gets_one_item_for_each(server: Running, coding: str, rate: int) -> None:
    with server.client().realtime.connect(model="x", extra_query={"intent": "transcription"}) as connection:
        connection.session.update(session=settings(format={"type": coding, "rate": rate}, turn_detection=None))
        until(connection, "session.updated")
        for words in ("one two . . . three", "four"):
            sound = pcm16(spoken(words), rate)
            for piece in pieces(sound if coding == "audio/pcm" else encoded(sound, coding)):
                connection.input_audio_buffer.append(audio=piece)
            connection.input_audio_buffer.commit()
            events = until(connection, COMPLETED)
            assert events[-1].transcript == words.replace(" . . .", "")
            assert "input_audio_buffer.committed" in [event.type for event in events]


def encoded(sound: bytes, coding: str) -> bytes:
    """G.711, each sample as the code that is decoded to the nearest one."""
    values = (mulaw if coding == "audio/pcmu" else alaw)(bytes(range(256))).astype(int)
    order = np.argsort(values)
    samples = np.frombuffer(sound, "<i2").astype(int)
    right = np.clip(np.searchsorted(values[order], samples), 1, 255)
    left = right - 1
    nearer = np.abs(values[order][left] - samples) <= np.abs(values[order][right] - samples)
    return bytes(order[np.where(nearer, left, right)].astype(np.uint8))


def test_g711_is_decoded_as_itu_defines_it() -> None:
    # ITU-T G.711, tables 1a and 2a: the ends, and the values next to 0, scaled to 16 bits.
    assert mulaw(bytes([0x00, 0x80, 0xFF, 0x7F, 0xFE])).tolist() == [-32124, 32124, 0, 0, 8]
    assert alaw(bytes([0x2A, 0xAA, 0xD5, 0x55])).tolist() == [-32256, 32256, 8, -8]


def test_what_is_cleared_is_not_heard(server: Running) -> None:
    with server.client().realtime.connect(model="x", extra_query={"intent": "transcription"}) as connection:
        connection.session.update(session=settings(turn_detection=None))
        until(connection, "session.updated")
        for words, end in (
            ("one two", connection.input_audio_buffer.clear),
            ("six", connection.input_audio_buffer.commit),
        ):
            for piece in pieces(pcm16(spoken(words), 24_000)):
                connection.input_audio_buffer.append(audio=piece)
            end()
        assert until(connection, COMPLETED)[-1].transcript == "six"


def open_socket(server: Running, **options: Any) -> ClientConnection:
    return connect(f"ws://{server.address}/v1/realtime?intent=transcription", **options)


@pytest.mark.parametrize(
    "message",
    [
        "no JSON", b"\xff\xfe\x00", "[]", '{"type": 7}', '{"type": "session.destroy"}', "[" * 100_000,
        '{"type": "input_audio_buffer.append", "audio": "!"}',
        '{"type": "input_audio_buffer.append", "audio": "AAAA"}',
        '{"type": "input_audio_buffer.append"}',
        '{"type": "input_audio_buffer.commit"}',
        '{"type": "session.update", "session": []}',
        '{"type": "session.update", "session": {"audio": 1}}',
        '{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "mp3"}}}}}',
        '{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 1}}}}}',
        '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"language": "klingon"}}}}}',
        '{"type": "session.update", "session": {"turn_detection": {"type": "semantic_vad"}}}',
        '{"type": "session.update", "session": {"turn_detection": {"type": "server_vad", "silence_duration_ms": "x"}}}',
    ],
)  # fmt: skip
def test_a_message_that_cannot_be_followed_is_answered_and_the_session_goes_on(
    server: Running, message: str | bytes
) -> None:
    with open_socket(server) as connection:
        assert json.loads(connection.recv())["type"] == "session.created"
        connection.send(message)
        answer = json.loads(connection.recv())
        assert answer["type"] == "error" and answer["error"]["message"]
        sound = base64.b64encode(pcm16(spoken("one . . ."), 24_000)).decode()
        connection.send(json.dumps({"type": "input_audio_buffer.append", "audio": sound}))
        while (event := json.loads(connection.recv()))["type"] != COMPLETED:
            pass
        assert event["transcript"] == "one"


def test_silence_says_nothing(server: Running) -> None:
    with open_socket(server) as connection:
        connection.recv()
        sound = base64.b64encode(bytes(48_000 * 5)).decode()
        connection.send(json.dumps({"type": "input_audio_buffer.append", "audio": sound}))
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.5)


def test_pages_of_others_and_those_without_the_key_are_kept_out(start: Start) -> None:
    server = start(key="secret")
    for options in ({}, {"additional_headers": {"Authorization": "Bearer wrong"}}):
        with pytest.raises(InvalidStatus):
            open_socket(server, **options)
    with pytest.raises(InvalidStatus):
        open_socket(server, origin="http://elsewhere.example", additional_headers={"Authorization": "Bearer secret"})
    with open_socket(server, subprotocols=["realtime", "openai-insecure-api-key.secret"]) as connection:
        assert connection.subprotocol == "realtime"
        assert json.loads(connection.recv())["type"] == "session.created"


def test_streams_are_bounded_and_freed_by_who_goes_in_mid_word(start: Start) -> None:
    from tests.server.test_rest import eventually

    server = start(limits=ServerLimits(streams=1, drain=1))
    with open_socket(server) as connection:
        connection.recv()
        with pytest.raises(InvalidStatus):
            open_socket(server)
        sound = pcm16(spoken("one two three"), 24_000)[:60_000]
        connection.send(json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()}))
    assert eventually(lambda: server.engine.streams == 0)
    with open_socket(server) as connection:
        assert json.loads(connection.recv())["type"] == "session.created"


def test_who_sends_nothing_is_left(start: Start) -> None:
    server = start(limits=ServerLimits(idle=0.2, drain=1))
    with open_socket(server) as connection:
        connection.recv()
        with pytest.raises(Exception, match="nothing came"):
            connection.recv(timeout=5)


def test_who_never_reads_is_left_and_others_go_on(start: Start) -> None:
    from tests.server.test_rest import eventually

    server = start(limits=ServerLimits(idle=0.5, drain=1))
    with socket.create_connection(server.address.split(":")) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.sendall(
            b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        # Each of these small frames is answered with a longer error.
        frame = b"\x81\x82" + bytes(4) + b"[]"
        deaf.settimeout(0.2)
        with contextlib.suppress(OSError):
            for _ in range(400):
                deaf.sendall(frame * 1000)
        with open_socket(server) as other:
            assert json.loads(other.recv())["type"] == "session.created"
        assert eventually(lambda: server.engine.streams == 0)
