"""What Qwen's speech models are told before and after the audio, token by token as they were trained."""

from __future__ import annotations

from dataclasses import dataclass

from fun_asr.models.qwen_tokenizer import QwenTokenizer
from fun_asr.options import Task, TranscriptionOptions

__all__ = ["AsrPrompts", "OmniPrompts", "Prompt", "Prompts"]

ASR_LANGUAGES = {
    "zh": "Chinese", "en": "English", "yue": "Cantonese", "ar": "Arabic", "de": "German", "fr": "French",
    "es": "Spanish", "pt": "Portuguese", "id": "Indonesian", "it": "Italian", "ko": "Korean", "ru": "Russian",
    "th": "Thai", "vi": "Vietnamese", "ja": "Japanese", "tr": "Turkish", "hi": "Hindi", "ms": "Malay", "nl": "Dutch",
    "sv": "Swedish", "da": "Danish", "fi": "Finnish", "pl": "Polish", "cs": "Czech", "tl": "Filipino",
    "fa": "Persian", "el": "Greek", "ro": "Romanian", "hu": "Hungarian", "mk": "Macedonian",
}  # fmt: skip
"""What Qwen3-ASR calls the languages that it knows."""

OMNI_LANGUAGES = {
    "en": "English", "zh": "Chinese", "ko": "Korean", "ja": "Japanese", "de": "German", "ru": "Russian",
    "it": "Italian", "fr": "French", "es": "Spanish", "pt": "Portuguese", "ms": "Malay", "nl": "Dutch",
    "id": "Indonesian", "tr": "Turkish", "vi": "Vietnamese", "yue": "Cantonese", "ar": "Arabic", "ur": "Urdu",
}  # fmt: skip
"""What Qwen3-Omni hears."""

SILENCE = "None"
"""The language of what nobody says."""


@dataclass(frozen=True)
class Prompt:
    """The tokens around the audio of a segment."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Prompts:
    """What the kinds of models have in common.

    Arguments:
        tokenizer: the model's.
        languages: names of the languages that it knows, by code.

    Raises:
        CheckpointError: when the vocabulary lacks a special token.
    """

    def __init__(self, tokenizer: QwenTokenizer, languages: dict[str, str]) -> None:
        self.tokenizer, self.languages = tokenizer, languages
        self._start, self._end = tokenizer.special("<|im_start|>"), tokenizer.special("<|im_end|>")
        self._audio_start = tokenizer.special("<|audio_start|>")
        self._audio_end = tokenizer.special("<|audio_end|>")
        ends = (self._end, tokenizer.find("<|endoftext|>"))
        self.stop = tuple(token for token in ends if token is not None)
        """Tokens that end a text."""

    def _turn(self, role: str, text: str = "") -> tuple[int, ...]:
        """A turn that is not closed yet."""
        return (self._start, *self.tokenizer.encode(f"{role}\n{text}"))

    def _closed(self) -> tuple[int, ...]:
        return (self._end, *self.tokenizer.encode("\n"))


class AsrPrompts(Prompts):
    """Qwen3-ASR's: what may be said is the system's turn, the language and the text are the assistant's."""

    def __init__(self, tokenizer: QwenTokenizer) -> None:
        super().__init__(tokenizer, ASR_LANGUAGES)
        self._text = tokenizer.special("<asr_text>")
        self._words = {code: tokenizer.encode(f" {name}") for code, name in (*ASR_LANGUAGES.items(), (None, SILENCE))}

    def prompt(self, options: TranscriptionOptions) -> Prompt:
        """Up to where the language is written."""
        context = "\n".join(
            part
            for part in (options.initial_prompt.strip(), ", ".join(hotword.phrase for hotword in options.hotwords))
            if part
        )
        return Prompt(
            before=(*self._turn("system", context), *self._closed(), *self._turn("user"), self._audio_start),
            after=(
                self._audio_end,
                *self._closed(),
                *self._turn("assistant"),
                *self.tokenizer.encode("language"),
            ),
        )

    def opening(self, language: str | None) -> tuple[int, ...]:
        """What follows the prompt of a text in a language, or of silence."""
        return (*self._words[language], self._text)

    def first_tokens(self) -> dict[str | None, int]:
        """The token by which each language, and silence, is told from the others."""
        return {code: tokens[0] for code, tokens in self._words.items()}


class OmniPrompts(Prompts):
    """Qwen3-Omni's thinker: the audio, then what is to be done with it, in the words of its evaluation."""

    def __init__(self, tokenizer: QwenTokenizer) -> None:
        super().__init__(tokenizer, OMNI_LANGUAGES)

    def prompt(self, language: str | None, task: Task) -> Prompt:
        """Up to where the text starts."""
        name = "" if language is None else f"{self.languages[language]} "
        if task == "translate":
            asked = f"Listen to the provided {name}speech and produce a translation in English text."
        elif language == "zh":
            asked = "请将这段中文语音转换为纯文本。"
        else:
            asked = f"Transcribe the {name}audio into text."
        return Prompt(
            before=(*self._turn("user"), self._audio_start),
            after=(self._audio_end, *self.tokenizer.encode(asked), *self._closed(), *self._turn("assistant")),
        )
