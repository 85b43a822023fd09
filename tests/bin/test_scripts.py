"""Every script of bin/ runs, on a clip or two, and prints what it is for."""

import json
import os
import re
import runpy
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from fun_asr.audio.decode import decode
from fun_asr.bundled import BUNDLED_MODEL
from fun_asr.models.fun_asr.load import load_config, load_network
from fun_asr.weights.directory import load_stored
from fun_asr.weights.int8 import dequantize
from fun_asr.weights.precision import ComputeType

pytestmark = pytest.mark.slow

BIN = Path(__file__).parents[2] / "bin"
DATA = Path(__file__).parents[1] / "data"
CLIPS = {"cv-00001.opus": "no one attacks an oasis", "so762-00001.opus": "sandy has a big arm"}

Run = Callable[..., list[list[str]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Gives a function that runs a script with arguments in this process; returns the rows of the table it prints."""
    threads, modules, path = torch.get_num_threads(), set(sys.modules), list(sys.path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(BIN.parent), os.environ.get("PYTHONPATH", "")]))

    def call(script: str, *arguments: object, status: int | str = 0) -> list[list[str]]:
        monkeypatch.setattr(sys, "argv", [str(BIN / script), *map(str, arguments)])
        try:
            runpy.run_path(str(BIN / script), run_name="__main__")
        except SystemExit as end:
            assert (end.code or 0) == status, (end.code, capsys.readouterr().err)
        lines = capsys.readouterr().out.splitlines()
        return [re.split(r" *\| *", line.strip("| ")) if line.startswith("|") else [line] for line in lines]

    yield call
    torch.set_num_threads(threads)
    sys.path[:] = path
    for name in {
        "espeak",
        "evidence",
        "joined",
        "language_models",
        "names",
        "processor",
        "shapes",
        "thinker",
        "workers",
    } & (set(sys.modules) - modules):
        del sys.modules[name]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two English clips."""
    rows = [
        {"audio_filepath": str(DATA / name), "duration": len(decode(DATA / name)) / 16_000, "text": text}
        | {"language": "en"}
        for name, text in CLIPS.items()
    ]
    path = tmp_path / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A folder with a second of noise."""
    folder = tmp_path / "noise"
    folder.mkdir()
    samples = 0.05 * np.random.default_rng(0).normal(size=48_000).astype(np.float32)
    soundfile.write(folder / "hiss.opus", samples, 48_000, format="OGG", subtype="OPUS")
    return folder


def program(path: Path, code: str) -> Path:
    """A Python program that stands for another system's."""
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    return path


def test_every_script_is_run_here() -> None:
    scripts = {path.name for folder in (BIN, BIN / "recipe") for path in folder.iterdir() if path.is_file()}
    assert {name for name in scripts if name not in Path(__file__).read_text()} == set()


def test_benchmark(run: Run, manifest: Path, tmp_path: Path) -> None:
    peer = program(
        tmp_path / "peer",
        "import json, sys\n"
        "rows = [json.loads(line) for line in open(sys.argv[1])]\n"
        "out = open(sys.argv[2], 'w')\n"
        "out.writelines(json.dumps({'text': r['text'], 'pred_text': r['text'] + ' more'}) + '\\n' for r in rows)\n"
        "print('RTFx 12.5')\n",
    )
    found = tmp_path / "scores.json"
    rows = run(
        "benchmark", manifest, "--threads", 1, "--beam_size", 1, "--peer", f"Peer={peer} {{manifest}} {{out}}",
        "--json", found,
    )  # fmt: skip
    assert "1 threads" in rows[0][0]
    assert [row[0] for row in rows[-4:]] == ["Fun-ASR", "Fun-ASR, beam 1", "Fun-ASR, CTC only", "Peer"]
    assert rows[-1][1:] == ["clips", "20.00", "20.00-20.00", "12.5", "0"]
    assert all(score["wer"] <= 30 for score in json.loads(found.read_text()))


def test_benchmark_models(run: Run, manifest: Path) -> None:
    rows = run("benchmark-models", manifest, "--models", "parakeet-test", "--threads", 1, "--rounds", 1)
    table = {row[1]: row[2:] for row in rows[-7:]}
    assert list(table)[-3:] == ["ours, float32", "ours, bfloat16", "ours, int8"]
    assert sum(name.startswith("transformers") for name in table) == 4
    assert all(float(cell) > 0 for cells in table.values() for cell in cells)


@pytest.mark.parametrize("model", ["qwen3-asr-tiny", "nano-tiny"])
def test_bench_llm(run: Run, manifest: Path, model: str) -> None:
    options = ["--seconds", 4, "--segments", 2, "--threads", 1, "--rounds", 1]
    rows = run("bench-llm", manifest, "--models", model, "--systems", "transformers float32,ours int4", *options)
    assert [row[:2] for row in rows[-2:]] == [[model, "transformers float32"], [model, "ours int4"]]
    assert rows[-2][3] == "1.00"
    assert all(float(cell) > 0 for row in rows[-2:] for cell in row[2:])


def test_bench_gpu(run: Run) -> None:
    options = ["--size", "tiny", "--device", "cpu", "--dtype", "float32", "--seconds", 2, "--rounds", 1]
    rows = run("bench-gpu", *options, "--batches", "2,3")
    assert [row[:2] for row in rows[-4:]] == [[n, system] for n in "23" for system in ("transformers", "ours")]
    assert all(float(row[2]) > 0 and row[5] == "1.00" for row in rows[-4:])
    rows = run("bench-gpu", *options, "--batches", "2", "--minutes", 0)
    assert rows[-2][0] == "segments"  # the head of a table without rows
    run("bench-gpu", "--device", "cuda:99", status=2)


def test_benchmark_models_refuses_a_size_that_it_does_not_know(run: Run, manifest: Path) -> None:
    run("benchmark-models", manifest, "--models", "parakeet-9b", status=2)
    run("bench-llm", manifest, "--models", "qwen3-asr-9b", status=2)


def test_benchmark_languages(run: Run, manifest: Path) -> None:
    rows = run("benchmark-languages", manifest, BUNDLED_MODEL, f"{BUNDLED_MODEL}:padded", "--detect", "--threads", 1)
    table = {row[0]: row[1:] for row in rows}
    assert all(float(cell) <= 30 for cell in table["en"])
    assert table["no speech heard"] == ["0.0", "0.0"]
    assert float(table["recognised"][0]) == 100


def test_bench_hotwords(run: Run, manifest: Path, noise: Path, tmp_path: Path) -> None:
    text = tmp_path / "books.txt"
    text.write_text("An oasis. Sandy roads, a strange caravan, and a word: attacks.\n")
    options = ["--half", "all", "--words", 4, "--noise", noise, "--threads", 1]
    rows = run("bench-hotwords", manifest, "--text", text, *options)
    assert [row[0] for row in rows[2:4]] == ["none, for the list of 4", "4, bonus 3.5"]
    assert rows[3][1] == "3 / 3"
    assert rows[-1] == ["Noise and silence with the list: 0 words."]


def test_bench_names(run: Run, manifest: Path) -> None:
    spoken = [line.split("\t") for (line,) in run("bench-names", "prompts", "--each", 2)]
    assert all(name in sentence for name, sentence in spoken) and len(spoken) == 2 * len({name for name, _ in spoken})
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row, text in zip(rows, ("tamsin attacks an oasis", "fayle has a big arm"), strict=True):
        row["text"] = text  # names that nobody says: never recalled, nor written
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--half", "all", "--weight", 0, "--weight", 10, "--threads", 1]
    together = run("bench-names", "measure", manifest, *options)
    assert [row[:4] for row in together[2:]] == [
        ["none", "0 of 2", "0.0", "0"],
        ["its own, weight 10", "0 of 2", "0.0", "0"],
        ["102, weight 10", "0 of 2", "0.0", "0"],
    ]
    (clips,) = run("bench-names", "measure", manifest, "--apart", "--half", "all", "--weight", 0, "--threads", 1)[2:]
    assert clips[:2] == ["none", "0 of 1"]


def test_bench_subtitles(run: Run, manifest: Path, tmp_path: Path) -> None:
    cues = (
        ("00:00:01,000 --> 00:00:03,000", "A sentence."),
        ("00:00:03,500 --> 00:00:12,500", "none of twenty letters"),
    )
    srt = "".join(f"{number}\n{times}\n{text}\n\n" for number, (times, text) in enumerate(cues, start=1))
    # Called with -c, its program, the model, threads, recording, language and the file to write.
    peer = program(tmp_path / "peer", f"import sys\nopen(sys.argv[7], 'w').write({srt!r})\n")
    options = ["--peer_python", peer, "--peer_model", tmp_path, "--minutes", 0.1, "--threads", 1]
    rows = run("bench-subtitles", f"en={manifest}", *options)
    ours, theirs = rows[2], rows[3]
    assert (ours[0], theirs[0]) == ("en, Fun-ASR", "en, faster-whisper")
    assert int(ours[1]) >= 2 and float(ours[6]) <= 7.0
    assert ours[3:6] == ["100", "100", "0"]
    assert (theirs[1], theirs[6], theirs[7], theirs[10]) == ("2", "9.00", "0", "22 x 1")


def test_bench_guard(run: Run, manifest: Path, noise: Path) -> None:
    quiet, speech, invented = run("bench-guard", manifest, "--noise", noise, "--minutes", 0.1, "--threads", 1)
    assert quiet[0].endswith("key clicks: 0 words.")
    assert speech[0].startswith("Speech: 0 of 10 words cut, 0 of them right; 0 clips emptied, 0 loops.")
    assert re.match(r"Invented words .*: \d+ of 10 cut, with 0 that were said\.", invented[0])


def test_bench_vad(run: Run, manifest: Path, noise: Path) -> None:
    rows = run("bench-vad", manifest, "--noise", noise, "--clips", 2)
    clean = [row for row in rows if row[1:2] == ["clean"] and row[0].startswith("network >= 0.1")]
    assert len(rows) == 2 + 30 + 3
    assert float(clean[0][2]) < 5


def test_bench_live(run: Run, manifest: Path, tmp_path: Path) -> None:
    events = [[3.0, [[" no", 1.0, 1.5]], " one attacks"], [4.0, [[" one", 1.5, 2.0]], ""]]
    whisper = program(
        tmp_path / "python",
        f"import json, sys\nfor _ in (p for p in sys.argv if p.endswith('.npy')):\n"
        f"    print(json.dumps({{'events': {events}, 'compute': 1.0}}))\n",
    )
    rows = run(
        "bench-live", manifest, "--sessions", 2, "--seconds", 4, "--threads", 1, "--clock", "cpu",
        "--whisper", whisper, "none",
    )  # fmt: skip
    assert [row[0] for row in rows[-2:]] == ["Fun-ASR", "LocalAgreement-2, Whisper base int8"]
    ours, theirs = rows[-2:]
    assert float(ours[1]) < 30 < float(theirs[1])
    assert theirs[3].startswith("33.3 %") and theirs[6] == "-"


def test_bench_alignment(run: Run, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Espeak:
        """Speaks by playing the clip."""

        def speak(self, text: str, *_: object) -> tuple[np.ndarray, list[types.SimpleNamespace]]:
            samples = decode(DATA / next(name for name, said in CLIPS.items() if said == text))
            words, seconds = text.split(), len(samples) / 16_000
            edges = np.linspace(0, seconds, len(words) + 1)
            return samples, [
                types.SimpleNamespace(text=word, start=start, end=end)
                for word, start, end in zip(words, edges[:-1], edges[1:], strict=True)
            ]

    fake = types.ModuleType("espeak")
    fake.Espeak = Espeak  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "espeak", fake)
    rows = run("bench-alignment", "edges", manifest, "--minutes", 0.1, "--threads", 1)
    assert [row[:2] for row in rows[2:6]] == [
        [kind, edge] for kind in ("synthesised", "joined") for edge in ("start", "end")
    ]
    assert all(float(row[3]) < 250 for row in rows[4:6])
    rows = run("bench-alignment", "attention", manifest, "--threads", 1)
    assert [row[:2] for row in rows[2:]] == [["en", "CTC"]] and float(rows[2][3]) < 100
    rows = run("bench-alignment", "drift", manifest, "--minutes", 0.2, "--threads", 1)
    assert [row[0] for row in rows[2:8:2]] == ["first", "middle", "last"]
    assert rows[-1][0].startswith("RTFx ")


def test_bench_parity(run: Run, manifest: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    whisper = tmp_path / "whisper"
    whisper.mkdir()
    (whisper / "config.json").write_text(json.dumps({"suppress_ids": [], "suppress_ids_begin": [3]}))
    peer = program(
        tmp_path / "python",
        "import json, numpy, sys\n"
        "for line in iter(sys.stdin.readline, ''):\n"
        "    print(json.dumps(f'{len(numpy.load(line.strip()))} samples'), flush=True)\n",
    )
    pairs = tmp_path / "pairs.json"
    rows = run(
        "bench-parity", whisper, manifest, "--peer_python", peer, "--converted", tiny_model_dir, "--pairs", pairs,
        "--threads", 1,
    )  # fmt: skip
    assert rows[-1] == ["2 clips, 0 texts equal: 0.0 %"]
    for pair in json.loads(pairs.read_text()):
        assert pair["peer"] == f"{len(decode(pair['audio_filepath']))} samples"
        assert pair["ours"] and not pair["ours"].startswith("d")


def test_bench_kernels(run: Run) -> None:
    rows = run("bench-kernels", "--tiny", "--seconds", 0.001, "--threads", 1)
    assert sum(row[0].startswith("4, 2, 16, 16") for row in rows) == 3
    assert sum(row[1:2] == ["4, 2, 16, 16"] and "**" in "".join(row) for row in rows) == 10
    assert sum(row[0] == "16, 16" for row in rows) == 5


def test_bench_batch(run: Run, manifest: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    options = ["--files", 4, "--long", 1, "--long_seconds", 6, "--bad", 1]
    assert run("bench-batch", "tree", tree, manifest, *options) == [["4 files, 1 of them long, 1 of them bad"]]
    whisper = program(tmp_path / "python", "print(2.0)\n")
    peer = program(tmp_path / "peer", "print('RTFx 3.0')\n")
    model = ["--model", tiny_model_dir, "--threads", 1]
    rows = run("bench-batch", "speed", tree, "--whisper", whisper, "none", "--peer", f"Peer={peer} {{list}}", *model)
    assert [row[0] for row in rows[2:]] == [
        "transcribe, a call a file", "transcribe, one call", "fun-asr batch --workers 1, start included",
        "faster-whisper, int8, beam 5", "Peer",
    ]  # fmt: skip
    assert rows[-1][2] == "3.0"
    bad, _, good, outputs = run("bench-batch", "kill", tree, "--kills", 1, *model)
    assert bad == ["1 bad recordings, 1 named, 0 others named"]
    assert good == ["3 good recordings, 3 transcribed, 0 of them repeatedly"]
    assert outputs[0].endswith("0 different from those of the whole run")
    rows = run("bench-batch", "memory", manifest, "--minutes", 0.1, *model)
    assert float(rows[-1][1]) > 100


def test_check_faults(run: Run) -> None:
    run("check-faults", "readers", "--inputs", 3, "--only", "hotwords")


def test_check_server(run: Run) -> None:
    rows = run("check-server", DATA / "cv-00001.opus", "--requests", 20, "--upload", 1)
    faults = {row[0]: row[1] for row in rows if len(row) > 1}
    assert faults["3 GiB"].startswith("announced: 413; in chunks: 413")
    assert faults["the limit"] == "200, and 413 for one byte more"
    assert faults["SIGTERM"].startswith("8 texts, 2 streams, exit status 0")
    assert rows[-1] == ["0 files left; 0 lines in the log"]


def test_bench_stream(run: Run, manifest: Path, noise: Path) -> None:
    rows = run("bench-stream", manifest, "--hours", 0.001, "--noise", noise, "--noise_minutes", 0.2)
    quiet = [row for row in rows if row[0] == "silence" or (len(row) == 4 and row[2:] == ["0", "0"])]
    assert quiet[0] == ["silence", "0.1", "0", "0"] and len(quiet) > 1
    assert int(rows[-1][2]) > 4


def test_bench_server(run: Run, manifest: Path) -> None:
    rows = run("bench-server", manifest, "--clients", 2, "--seconds", 4, "--runs", 1, "--threads", 1)
    assert [row[0] for row in rows[-2:]] == ["a directory", "2 clients of the server"]
    assert rows[-1][4].startswith("0 of ")


def test_bench_equivalence(run: Run, manifest: Path) -> None:
    rows = run("bench-equivalence", manifest, "--clips", 1, "--threads", 1)
    assert len(rows) > 2


def test_calibrate_confidence(run: Run, manifest: Path) -> None:
    rows = run("recipe/calibrate-confidence", manifest, "--threads", 1)
    assert [row[0] for row in rows[2::6]] == ["generate", "ctc"]
    assert [row[3] for row in rows[2:4]] == ["5", "5"]


def test_case_transcripts(run: Run, manifest: Path, tmp_path: Path) -> None:
    text, out = tmp_path / "books.txt", tmp_path / "out.jsonl"
    text.write_text("We met at the Oasis.\n")
    run("recipe/case-transcripts", text, manifest, out)
    assert [json.loads(line)["written"] for line in out.open()] == ["No one attacks an Oasis.", "Sandy has a big arm."]


def test_pseudo_label(run: Run, manifest: Path, tmp_path: Path) -> None:
    for options in ([], ["--distil"], ["--padded"]):
        out = tmp_path / f"{len(options) and options[0]}.jsonl"
        run("recipe/pseudo-label", BUNDLED_MODEL, manifest, out, *options, "--threads", 1)
        found = {Path(row["audio_filepath"]).name: row for row in map(json.loads, out.open())}
        assert found.keys() == CLIPS.keys()
        # Distilled is what the model wrote, right or wrong; else the words are the transcript's.
        assert found["cv-00001.opus"]["written"].startswith("No one attacks an")
        assert "--distil" in options or found["cv-00001.opus"]["written"] == "No one attacks an oasis."
        assert found["cv-00001.opus"]["text"] == ("" if "--distil" in options else CLIPS["cv-00001.opus"])


def test_teach(run: Run, manifest: Path, tmp_path: Path) -> None:
    run("recipe/teach", BUNDLED_MODEL, manifest, tmp_path / "cache", "--compute_type", "float32", "--threads", 1)
    taught = {Path(row["audio_filepath"]).name for row in map(json.loads, (tmp_path / "cache/manifest.jsonl").open())}
    assert taught == set(CLIPS)


def test_train_on_gpu(run: Run, manifest: Path, noise: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    script, pieces, out, new = "recipe/train-on-gpu", tmp_path / "pieces", tmp_path / "out", tmp_path / "new"
    flac = tmp_path / "clip.flac"
    soundfile.write(flac, decode(DATA / "so762-00001.opus"), 16_000)
    (tmp_path / "plain.jsonl").write_text(
        json.dumps({"audio_filepath": "clip.flac", "duration": 2.0, "text": "a", "written": "a"})
    )
    run("recipe/teach", tiny_model_dir, manifest, tmp_path / "cache", "--compute_type", "float32", "--threads", 1)
    config = tmp_path / "train.yaml"
    values = {
        "init": str(tiny_model_dir), "output_dir": "-", "steps": 12, "batch_seconds": 9.0, "threads": 1,
        "train": [{"manifest": "cache/manifest.jsonl", "targets": "teacher"}, {"manifest": "plain.jsonl"}],
        "noise_dir": str(noise), "freeze": ["decoder."], "optimizer": {"learning_rate": 0.01},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(values))
    asked = f"{config}: a teacher was asked about its manifests; name it with --teacher"
    run(script, "pack", config, pieces, status=asked)
    run(script, "pack", config, pieces, "--teacher", tiny_model_dir, "--megabytes", 0.4)
    assert len(list(pieces.iterdir())) > 1
    assert all(path.stat().st_size <= 400_000 for path in pieces.iterdir())
    for path in (flac, tmp_path / "plain.jsonl", tmp_path / "cache" / "manifest.jsonl", config):
        path.unlink()  # nothing else travels
    train = [script, "train", pieces, out, "--minutes", 60, "--threads", 2, "--megabytes", 0.02, "--work", tmp_path]
    last = max(pieces.iterdir())
    hidden = last.rename(tmp_path / "hidden")
    run(*train, status=f"{pieces}: {last.name} missing")
    hidden.rename(last)
    run(*train)
    assert {"frames_loss", "decoder_loss"} < set((out / "log.csv").read_text().splitlines()[0].split(","))
    run(script, "join", out, tiny_model_dir, new)
    before, after = (dequantize(load_stored(path)) for path in (tiny_model_dir, new))
    step = {name: float(tensor.abs().max()) / 127 for name, tensor in before.items()}
    change = {
        name: float((tensor - before[name]).abs().max()) for name, tensor in after.items() if "balance" not in name
    }
    moved = {name.split(".")[0] for name in change if change[name] > step[name]}
    assert "encoder" in moved
    assert "decoder" not in moved, "it was frozen"
    assert load_network(new, torch.device("cpu"), ComputeType.FLOAT32).config == load_config(tiny_model_dir)
    (out / "weights-00").write_bytes((out / "weights-00").read_bytes()[:100])
    damaged = f"{out}: a part of the weights is missing or damaged"
    run(script, "join", out, tiny_model_dir, new, status=damaged)


def test_synthesize_languages(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(
        tmp_path / "espeak-ng",
        "import io, sys\nimport numpy, soundfile\n"
        "wave = io.BytesIO()\n"
        "soundfile.write(wave, 0.1 * numpy.ones(44100), 22050, format='WAV')\n"
        "sys.stdout.buffer.write(wave.getvalue())\n",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "it.txt").write_text("Buongiorno a tutti.\n\nArrivederci.\n")
    run("recipe/synthesize-languages", tmp_path / "texts", tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").open()]
    assert [row["text"] for row in rows] == ["Buongiorno a tutti.", "Arrivederci."]
    assert all(len(decode(tmp_path / "out" / row["audio_filepath"])) == 32_000 for row in rows)


def test_ablate_experts(run: Run, manifest: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    values = {
        "init": "-",
        "output_dir": "-",
        "train": [{"manifest": manifest.name}],
        "steps": 2,
        "most_left_out": 1.0,
        "batch_seconds": 8.0,
    }
    config.write_text(yaml.safe_dump(values))
    options = ["--only", "8 experts, top-2", "--threads", 1]
    rows = run("recipe/ablate-experts", tiny_model_dir, config, tmp_path / "out", manifest, *options)
    assert rows[-1][0] == "8 experts, top-2"
    assert len(rows[-1]) == 7
    assert float(rows[-1][5]) >= 1
    assert (tmp_path / "out" / "8-2-128" / "final" / "config.json").exists()


@pytest.mark.parametrize("name", ["fun-asr", "test"])
def test_commands_of_a_made_environment(name: str, tmp_path: Path) -> None:
    """Where the environment stands, `bin/fun-asr` and `bin/test` start in it and hand their arguments on."""
    import subprocess

    shutil.copytree(BIN, tmp_path / "bin", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(BIN.parent / "pyproject.toml", tmp_path)
    home = tmp_path / ".venv" / "bin"
    home.mkdir(parents=True)
    for command in ("python", "fun-asr"):
        program(home / command, f"import sys\nprint({command!r}, sys.argv[1:])\n")
    checksum = subprocess.run(["cksum"], stdin=(tmp_path / "pyproject.toml").open("rb"), capture_output=True, text=True)
    (tmp_path / ".venv" / ".fun-asr-installed").write_text(f"{checksum.stdout.strip()} {tmp_path.resolve()}\ndev\n")
    found = subprocess.run([tmp_path / "bin" / name, "a b", "--help"], capture_output=True, text=True, check=True)
    expected = {"fun-asr": "fun-asr ['a b', '--help']\n", "test": "python ['-m', 'pytest', 'a b', '--help']\n"}
    assert found.stdout == expected[name]


def test_the_reference_of_the_python_api_is_checked(run: Run) -> None:
    assert run("python-api", "--check") == []
