"""FunASR's WebSocket protocol, with a client written from its description."""

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.server.conftest import Running, pcm16, wav
from tests.streaming.conftest import spoken

TALK = "one two three four five . . . six seven . . ."


def open_socket(server: Running) -> ClientConnection:
    return connect(f"ws://{server.address}/", subprotocols=["binary"])  # type: ignore[list-item]


def speak(server: Running, first: dict[str, Any], sound: bytes, piece: int = 1920) -> list[dict[str, Any]]:
    """The answers up to the last."""
    with open_socket(server) as socket:
        socket.send(json.dumps({"chunk_size": [5, 10, 5], "wav_name": "talk", "is_speaking": True, **first}))
        for start in range(0, len(sound), piece):
            socket.send(sound[start : start + piece])
        socket.send(json.dumps({"is_speaking": False}))
        found = [json.loads(socket.recv(timeout=20))]
        while not found[-1]["is_final"]:
            found.append(json.loads(socket.recv(timeout=20)))
        return found


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_two_passes_show_words_and_then_sentences(server: Running, rate: int) -> None:
    found = speak(
        server, {"mode": "2pass", "wav_format": "pcm", "audio_fs": rate}, pcm16(spoken(TALK), rate), rate // 10
    )
    offline = [message for message in found if message["mode"] == "2pass-offline"]
    assert [message["text"] for message in offline[:2]] == ["one two three four five", "six seven"]
    online = "".join(message["text"] for message in found[: found.index(offline[0])])
    assert "one two three four five".startswith(online) and online.startswith("one two")
    stamps = json.loads(offline[0]["timestamp"])
    assert len(stamps) == 5 and stamps[0] == pytest.approx([500, 800], abs=30)
    assert offline[0]["stamp_sents"][0]["ts_list"] == stamps
    assert {message["wav_name"] for message in found} == {"talk"}


def test_online_pieces_are_all_that_was_said(server: Running) -> None:
    found = speak(server, {"mode": "online", "wav_format": "pcm"}, pcm16(spoken(TALK)))
    assert {message["mode"] for message in found} == {"online"}
    assert "".join(message["text"] for message in found) == "one two three four five six seven"


def test_offline_takes_samples_and_files(server: Running) -> None:
    text = "one two three four five six seven"
    (found,) = speak(server, {"mode": "offline", "wav_format": "pcm", "audio_fs": 8_000}, pcm16(spoken(TALK), 8_000))
    assert (found["mode"], found["text"]) == ("offline", text)
    (found,) = speak(server, {"mode": "offline", "wav_format": "wav"}, wav(TALK)[1], 10_001)
    assert found["text"] == text and len(json.loads(found["timestamp"])) == 7


def test_silence_ends_too(server: Running) -> None:
    assert [message["text"] for message in speak(server, {"mode": "2pass"}, bytes(64_000))] == [""]
    assert [message["text"] for message in speak(server, {"mode": "offline"}, b"")] == [""]


def test_hotwords_and_language_reach_the_model(server: Running) -> None:
    hotwords = json.dumps({"阿里巴巴": 20, "通义实验室": 30})
    found = speak(server, {"mode": "offline", "hotwords": hotwords, "itn": False}, pcm16(spoken("one")))
    assert found[0]["text"] == "one"


@pytest.mark.parametrize(
    "message",
    ["no JSON", "[]", '{"mode": "3pass"}', '{"audio_fs": 7}', '{"audio_fs": "fast"}', '{"hotwords": [1]}',
     '{"hotwords": "{\\"a\\": -1}"}', '{"svs_lang": "klingon"}', "[" * 100_000, b"\x00"],
)  # fmt: skip
def test_what_cannot_be_followed_ends_the_connection(server: Running, message: str | bytes) -> None:
    with open_socket(server) as socket:
        socket.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=10)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1003
    assert speak(server, {"mode": "offline"}, pcm16(spoken("two")))[0]["text"] == "two"
