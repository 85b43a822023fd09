"""Choosing among the decoder's hypotheses by what CTC heard (hybrid CTC/attention rescoring, Watanabe et al. 2017).

The decoder knows the language and may write what fits; CTC knows which sounds came when.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.text.tokenizer import CTCTokenizer

CTC_WEIGHT = 0.3

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'"})


def spoken_form(text: str) -> str | None:
    """Formatted English as the CTC head's vocabulary has it: lower case, no punctuation.

    Returns:
        None where the words are not known: digits, symbols that are read out, letters that English lacks.

    >>> spoken_form("It's Mr. Brown’s well-known dog!")
    "it's mr brown's well known dog"
    """
    lowered = text.lower().translate(_APOSTROPHES)
    if re.search(r"[^a-z' .,;:?!\-–—\"“”…]", lowered):
        return None
    words = re.sub(r"[^a-z']+", " ", lowered).split()
    return " ".join(stripped for word in words if (stripped := word.strip("'")))


def ctc_scores(log_probs: Tensor, spoken: Sequence[str], tokenizer: CTCTokenizer) -> Tensor:
    """Log-probability of each of n transcripts of one utterance, float32 `[n]`; minus infinity where it does not fit.

    Arguments:
        log_probs: the utterance's CTC log-probabilities `[J, C]`, without padding.
        spoken: n transcripts in spoken form.
        tokenizer: the CTC head's.
    """
    targets = [torch.tensor(tokenizer.encode(text), dtype=torch.int64) for text in spoken]
    frames = log_probs.shape[0]
    losses = F.ctc_loss(
        log_probs.cpu()[:, None].expand(-1, len(targets), -1),
        torch.cat(targets),
        torch.full((len(targets),), frames),
        torch.tensor([len(target) for target in targets]),
        blank=tokenizer.blank,
        reduction="none",
    )
    return -losses


def best_hypothesis(
    n_best: Sequence[tuple[float, list[int]]], texts: Sequence[str], log_probs: Tensor, tokenizer: CTCTokenizer
) -> int:
    """Index of the hypothesis that decoder and CTC together find most likely.

    The decoder's first choice stays where a hypothesis has no spoken form that CTC could score.

    Arguments:
        n_best: mean log-probability a token and tokens of each hypothesis, end of text not among the tokens.
        texts: what each says.
        log_probs: the utterance's CTC log-probabilities `[J, C]`, without padding.
        tokenizer: the CTC head's.
    """
    spoken = [form for text in texts if (form := spoken_form(text)) is not None]
    if len(texts) < 2 or len(spoken) < len(texts):
        return 0
    decoder = torch.tensor([score * (len(tokens) + 1) for score, tokens in n_best])
    joint = (1 - CTC_WEIGHT) * decoder + CTC_WEIGHT * ctc_scores(log_probs, spoken, tokenizer)
    return int(joint.argmax())
