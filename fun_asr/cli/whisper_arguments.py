"""What users of Whisper, whisper-ctranslate2 and faster-whisper type, understood or answered in one line."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

__all__ = ["as_click_reads_them", "reason_against", "starts_with_recording"]

_TRUE, _FALSE = {"true", "yes", "1"}, {"false", "no", "0"}

# Options of theirs that this engine has no use for, and why.
_REASONS = {
    "align_model": "words get their times from the model itself",
    "append_punctuations": "words carry their punctuation here",
    "batched": "segments are always recognised together; --batch_size says how many",
    "best_of": "nothing is drawn at random; --beam_size sets the width of the search",
    "cache_directory": "--model takes the folder itself; nothing is downloaded",
    "carry_initial_prompt": "--initial_prompt is given to every segment",
    "chunk_size": "segments are as long as the model takes",
    "compression_ratio_threshold": "loops are found and cut by themselves; --temperature_fallback tries them again",
    "condition_on_previous_text": "segments are recognised by themselves, so that no loop is carried on",
    "device_index": "use --device cuda:N",
    "diarize": "who speaks when is not found out; --channels each keeps a speaker a channel apart",
    "fp16": "use --compute_type float16 (GPU), bfloat16, int8 or float32",
    "hallucination_silence_threshold": "speech detection, and CTC where a model has it, keep invented text out",
    "hf_token": "nothing is downloaded when a recording is transcribed",
    "length_penalty": "hypotheses are compared by their mean log-probability",
    "live_input_device": "a microphone is for Python: Transcriber.stream",
    "live_transcribe": "a microphone is for Python: Transcriber.stream",
    "live_volume_threshold": "a microphone is for Python: Transcriber.stream",
    "local_files_only": "nothing is downloaded when a recording is transcribed",
    "logprob_threshold": "use --temperature_fallback",
    "max_speakers": "who speaks when is not found out; --channels each keeps a speaker a channel apart",
    "min_speakers": "who speaks when is not found out; --channels each keeps a speaker a channel apart",
    "model_dir": "--model takes the folder itself; nothing is downloaded",
    "model_directory": "--model takes the folder itself",
    "multilingual": "the language is found out in every segment unless --language gives it",
    "no_align": "use --no_word_timestamps",
    "no_repeat_ngram_size": "loops are found and cut by themselves",
    "no_speech_threshold": "speech detection decides, and the model where it can tell",
    "patience": "the search ends when --beam_size hypotheses are complete",
    "prefix": "use --initial_prompt",
    "prepend_punctuations": "words carry their punctuation here",
    "pretty_json": "-f json is indented in the files of --output_dir",
    "print_colors": "-f json has the confidence of every word",
    "print_progress": "progress is shown unless --quiet is given",
    "prompt_reset_on_temperature": "--initial_prompt is given to every segment",
    "repetition_penalty": "loops are found and cut by themselves",
    "speaker_name": "who speaks when is not found out; --channels each labels the channels",
    "speaker_num": "who speaks when is not found out; --channels each keeps a speaker a channel apart",
    "suppress_blank": "the model's own list is used",
    "suppress_tokens": "the model's own list is used",
    "temperature": "nothing is drawn at random; --temperature_fallback tries unlikely texts again",
    "temperature_increment_on_fallback": "use --temperature_fallback",
    "vad_filter": "speech detection is always on",
    "vad_max_speech_duration_s": "segments are as long as the model takes",
    "vad_method": "speech detection is always on, and there is one",
    "vad_min_silence_duration_ms": "segments are cut at the quietest point; --max_pause_seconds is for subtitles",
    "vad_min_speech_duration_ms": "speech detection keeps the shortest word",
    "vad_offset": "speech detection has no threshold to set",
    "vad_onset": "speech detection has no threshold to set",
    "vad_threshold": "speech detection has no threshold to set",
    "word_level_timestamps": "use --word_timestamps, which is on",
}


def reason_against(option: str) -> str | None:
    """Why there is no such option; None for what none of the others has either."""
    return _REASONS.get(option.lstrip("-").replace("-", "_"))


def starts_with_recording(argument: str) -> bool:
    """Whether the first argument is no command but what to transcribe."""
    return argument == "-" or os.sep in argument or os.path.exists(argument)


def as_click_reads_them(command: click.Command, arguments: Sequence[str]) -> list[str]:
    """Arguments with "--flag True" and "--flag=False" as "--flag" and "--no_flag"."""
    switches: dict[str, tuple[str, str | None]] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.is_flag:
            off = parameter.secondary_opts[0] if parameter.secondary_opts else None
            for name in parameter.opts:
                switches[_plain(name)] = (parameter.opts[0], off)
    found: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*found, argument, *rest]
        name, joined, value = argument.partition("=")
        switch = switches.get(_plain(name)) if name.startswith("--") else None
        if switch is not None and not joined and rest and rest[0].lower() in ("true", "false"):
            joined, value = "=", rest.pop(0)
        if switch is None or not joined or value.lower() not in _TRUE | _FALSE:
            found.append(argument)
        elif value.lower() in _TRUE:
            found.append(switch[0])
        elif switch[1] is not None:
            found.append(switch[1])
    return found


def _plain(name: str) -> str:
    return name.replace("_", "-")
