"""docs/python-api.md: its reference is that of the docstrings, and its examples run."""

import doctest
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

import fun_asr
from tests.models.reference import DATA
from tests.test_docs import Block, split_page

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "python-api.md"
EXAMPLES = [block for block in split_page(PAGE.read_text(encoding="utf-8"))[1] if block.language == "python"]


def test_the_reference_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert runpy.run_path(str(ROOT / "bin" / "python-api"))["page"](text) == text, "run bin/python-api"


def test_the_reference_has_all_that_is_public() -> None:
    reference = PAGE.read_text(encoding="utf-8").partition("## Reference\n")[2]
    assert [name for name in fun_asr.__all__ if name != "__version__" and f"### {name}\n" not in reference] == []
    for name in ("transcribe", "stream_segments", "transcribe_samples", "detect_language", "align", "collect_routing"):
        assert f"`Transcriber.{name}(" in reference
    for name in fun_asr.transcriber.TranscriptionKeywords.__annotations__:
        assert f"- `{name}`: " in reference or f" `{name}`" in reference


def test_what_docstrings_show_is_what_comes_out() -> None:
    tested = 0
    for name in fun_asr.__all__:
        value = getattr(fun_asr, name)
        if isinstance(value, str):
            continue
        for example in doctest.DocTestFinder().find(value, name, module=sys.modules[value.__module__]):
            result = doctest.DocTestRunner().run(example)
            assert result.failed == 0
            tested += result.attempted
    assert tested


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: f"line {block.line}")
def test_an_example_runs(
    block: Block,
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:

    for name in ("a.wav", "b.wav", "b.mp3", "talk.mp4", "lecture.mp3"):
        shutil.copy(DATA / "libri-00001.opus", tmp_path / name)
    (tmp_path / "my-model").symlink_to(tiny_model_dir)
    original = fun_asr.load_model
    monkeypatch.setattr(
        fun_asr, "load_model", lambda *args, **options: original(*(args or (tiny_model_dir,)), **options)
    )
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    try:
        exec(compile(block.code, str(PAGE), "exec"), {"__name__": "example"})
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().out.strip()
