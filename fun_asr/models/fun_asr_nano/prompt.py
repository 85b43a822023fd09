"""What Fun-ASR-Nano is told: language, written form, context and hotwords are words of its prompt."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["END", "LANGUAGE_NAMES", "START", "prompt"]

LANGUAGE_NAMES = {
    "zh": "中文", "en": "英文", "yue": "粤语", "ja": "日文", "ko": "韩文", "vi": "越南语", "id": "印尼语",
    "th": "泰语", "ms": "马来语", "tl": "菲律宾语", "ar": "阿拉伯语", "hi": "印地语", "bg": "保加利亚语",
    "hr": "克罗地亚语", "cs": "捷克语", "da": "丹麦语", "nl": "荷兰语", "et": "爱沙尼亚语", "fi": "芬兰语",
    "el": "希腊语", "hu": "匈牙利语", "ga": "爱尔兰语", "lv": "拉脱维亚语", "lt": "立陶宛语", "mt": "马耳他语",
    "pl": "波兰语", "pt": "葡萄牙语", "ro": "罗马尼亚语", "sk": "斯洛伐克语", "sl": "斯洛文尼亚语", "sv": "瑞典语",
}  # fmt: skip
"""Those of MLT-Nano by their codes, as its prompt names them; Nano knows Chinese, English and Japanese."""

START, END = "<|im_start|>", "<|im_end|>"
_SYSTEM = (START, "system\nYou are a helpful assistant.", END, "\n")
_CONTEXT = "请结合上下文信息，更加准确地完成语音转写任务。如果没有相关信息，我们会留空。\n\n\n**上下文信息：**\n\n\n"
_NO_THOUGHTS = ("<think>", "\n\n", "</think>", "\n\n")


def prompt(
    language: str | None,
    *,
    itn: bool,
    hotwords: Sequence[str] = (),
    context: str = "",
    system: bool = True,
    thinks: bool = True,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands before the speech and after it: names of special tokens, and texts between them.

    Arguments:
        language: code of one of `LANGUAGE_NAMES`; None leaves it open.
        itn: whether numbers and the like may be written in digits.
        hotwords: words that may come.
        context: a text that may help, such as what was said before.
        system, thinks: as in `fun_asr.models.fun_asr_nano.config.NanoConfig`.
    """
    asked = ""
    if hotwords or context:
        asked = _CONTEXT + (f"{context}\n" if context else "")
        asked += f"热词列表：[{', '.join(hotwords)}]\n" if hotwords else ""
    asked += "语音转写" if language is None else f"语音转写成{LANGUAGE_NAMES[language]}"
    asked += "：" if itn else "，不进行文本规整："
    before = (*(_SYSTEM if system else ()), START, f"user\n{asked}")
    return before, (END, "\n", START, "assistant\n", *(() if thinks else _NO_THOUGHTS))
