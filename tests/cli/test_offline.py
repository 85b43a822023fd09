"""No command but `models download` opens a connection: every other one runs where an attempt is seen and refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fun_asr.cli import _COMMANDS

DATA = Path(__file__).parents[1] / "data"
CLIP = DATA / "cv-00001.opus"

WATCH = """
import os, sys

def watch(event, arguments):
    # Sockets between processes of this machine have a path for an address.
    outward = event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[1], tuple)
    if outward or event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "http.client.connect"):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{event} {arguments[1:]}\\n")
        raise OSError("no connections here")

sys.addaudithook(watch)
"""
"""Python runs this first in every process, those that a command starts too."""

RUN = """
import io, json, sys
from fun_asr.cli import main

if __name__ == "__main__":
    for command in json.load(open(sys.argv[1])):
        sys.stdin = io.TextIOWrapper(io.BytesIO(b"hello there this is text"))
        try:
            main(command)
        except SystemExit as end:
            print("STATUS", command[0], end.code or 0, file=sys.stderr)
"""


@pytest.mark.slow
def test_no_other_command_opens_a_connection(tiny_model_dir: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "list.jsonl"
    row = {"audio_filepath": str(CLIP), "duration": 2.0, "text": "no one attacks", "language": "en"}
    manifest.write_text(json.dumps(row) + "\n")
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox\njumps over the lazy dog\n")
    out = str(tmp_path / "out")
    model = ["--model", str(tiny_model_dir), "--compute_type", "float32"]
    config = tmp_path / "train.yaml"
    values = {"init": str(tiny_model_dir), "output_dir": out + "-trained", "train": [{"manifest": manifest.name}]}
    config.write_text(yaml.safe_dump(values | {"steps": 1, "batch_seconds": 8.0}))
    missing = str(tmp_path / "config.yaml")
    commands = [
        ["transcribe", *model, "-l", "en", "-f", "json", str(CLIP)],
        ["transcribe", "-l", "en", "https://example.com/talk.mp3"],
        ["transcribe", "--model", "openai/whisper-tiny", str(CLIP)],
        ["batch", *model, str(CLIP), "-o", out, "--workers", "2"],
        ["evaluate", *model, str(manifest), "-o", out + "-evaluated"],
        ["moe-stats", *model, "-l", "en", str(CLIP)],
        ["info", str(tiny_model_dir), "--tokens_per_second", "0.5"],
        ["wer", "-r", str(text), "-h", str(text), "--normalizer", "english"],
        ["format"],
        ["convert", "int8", str(tiny_model_dir), out + "-int8"],
        ["convert", "average", out + "-mean", f"{tiny_model_dir}=0.5", f"{tiny_model_dir}=0.5"],
        ["train-lm", "--model", out + "-int8", str(text)],
        ["train", str(config)],
        ["train-punctuation", missing],
        ["models"],
        ["models", "-f", "json"],
        ["configs"],
        ["listen", *model, "-l", "en", "-"],
    ]
    # The server is what listens; what it opens is asked for.
    assert {command[0] for command in commands} == set(_COMMANDS) - {"serve"}
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "run.py").write_text(RUN)
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    attempts = tmp_path / "attempts"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")]), os.getcwd()])
    environment = os.environ | {"PYTHONPATH": path, "ATTEMPTS": str(attempts)}
    command = [sys.executable, "run.py", "commands.json"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert not attempts.exists(), attempts.read_text()
    statuses = [line.split()[1:] for line in result.stderr.splitlines() if line.startswith("STATUS")]
    assert [name for name, _ in statuses] == [command[0] for command in commands], result.stderr
    failed = [i for i, (_, status) in enumerate(statuses) if status != "0"]
    assert failed == [1, 2, 13, 17], result.stderr


def test_an_attempt_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    attempts = tmp_path / "attempts"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "ATTEMPTS": str(attempts)}
    code = "import socket\nsocket.create_connection(('127.0.0.1', 9))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert attempts.exists()
