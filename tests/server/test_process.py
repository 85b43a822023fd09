"""`fun-asr serve` as a process: it listens, drains, and leaves nothing behind."""

import base64
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from click.testing import CliRunner
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fun_asr.cli import main
from tests.server.conftest import Running, pcm16, wav
from tests.streaming.conftest import spoken

PROGRAM = """
import sys, time
import fun_asr.cli.serve as serve
from tests.cli.test_listen import tones_for
def load(*_):
    transcriber = tones_for()
    plain = transcriber.recogniser.recognise
    def slow(*arguments):
        time.sleep(1)
        return plain(*arguments)
    transcriber.recogniser.recognise = slow
    return transcriber
serve.load_transcriber = load
from fun_asr.cli import main
main(["serve", "--port", "0", *sys.argv[1:]])
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server whose model takes a second for each batch, and its address."""
    environment = {**os.environ, "FUN_ASR_API_KEY": "secret", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, text=True, env=environment
    ) as started:
        assert started.stderr is not None
        line = started.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield started, found[0]
        started.kill()


def test_sigterm_lets_requests_end_and_refuses_new_ones(
    process: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    server, url = process
    texts = []

    def ask(word: str) -> None:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0, timeout=20)
        texts.append(client.audio.transcriptions.create(file=wav(word), model="x").text)

    with httpx.Client(timeout=20) as kept:
        assert kept.get(f"{url}/ready").status_code == 200
        threads = [threading.Thread(target=ask, args=(word,)) for word in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for _ in range(200):
            text = kept.get(f"{url}/metrics", headers={"authorization": "Bearer secret"}).text
            if "fun_asr_requests_active 3" in text:
                break
            time.sleep(0.01)
        server.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
    assert sorted(texts) == ["one", "three", "two"]
    assert server.wait(20) == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ready")


def test_sigterm_lets_streams_say_what_they_have_heard(
    process: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    server, url = process
    address = url.replace("http", "ws")
    key = {"Authorization": "Bearer secret"}
    with (
        connect(f"{address}/v1/realtime", additional_headers=key) as openai_socket,
        connect(f"{address}/?api_key=secret") as funasr_socket,
        connect(f"{address}/?api_key=secret") as offline_socket,
        connect(f"{address}/?api_key=secret") as idle_socket,
    ):
        sound = base64.b64encode(pcm16(spoken("one two three"), 24_000)).decode()
        openai_socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": sound}))
        funasr_socket.send(json.dumps({"mode": "2pass"}))
        funasr_socket.send(pcm16(spoken("four five")))
        offline_socket.send(json.dumps({"mode": "offline"}))
        offline_socket.send(pcm16(spoken("six seven")))
        offline_socket.send(json.dumps({"is_speaking": False}))
        # The model takes seconds for the first impressions of what was said.
        time.sleep(1)
        server.send_signal(signal.SIGTERM)
        (completed,) = (event for event in until_closed(openai_socket) if event["type"].endswith(".completed"))
        assert completed["transcript"] == "one two three"
        assert until_closed(funasr_socket)[-1]["text"] == "four five"
        assert until_closed(offline_socket)[-1]["text"] == "six seven"
        assert until_closed(idle_socket) == []
    assert server.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


def until_closed(connection: ClientConnection) -> list[dict[str, Any]]:
    """What comes until the server says that it ends."""
    events = []
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            events.append(json.loads(connection.recv(timeout=20)))
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
    return events


def test_a_port_that_is_taken_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cli.test_listen import tones_for

    monkeypatch.setattr("fun_asr.cli.serve.load_transcriber", lambda *_: tones_for())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["serve", "--port", str(port)])
    assert result.exit_code == 1
    assert f"127.0.0.1:{port}: cannot listen there" in result.stderr


def test_garbage_on_the_line_harms_nobody(server: Running) -> None:
    rng = random.Random(0)
    for number in range(300):
        with socket.create_connection(server.address.split(":")) as connection:
            if number % 3 == 0:
                connection.sendall(rng.randbytes(200))
            elif number % 3 == 1:
                connection.sendall(b"GET / HTTP/1.1\r\n" + b"x-%d: y\r\n" % number * 50 + b"bad header\r\n\r\n")
            else:
                connection.sendall(b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n")
    assert server.client().audio.transcriptions.create(file=wav("one two"), model="x").text == "one two"
    assert server.engine.requests == 0
