"""The CTC head: a strided adaptor, conformer-style blocks and a linear layer (Graves et al. 2006).

The encoder's output serves a decoder that attends where it likes; which frame stands for which token is the blocks' to
learn. At half of the encoder's rate (stride 2) they cost little. A quarter (80 ms a frame) is too coarse for a word of
small pieces: "speech" is four, two of them equal, which CTC parts by a blank, five frames in a third of a second.

Shapes: B batch, L encoder frames (20 ms), J = ceil(L / stride) CTC frames, D width, C vocabulary, the blank last.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.attention import length_mask
from fun_asr.layers.encoder import EncoderBlock, EncoderConfig
from fun_asr.models.fun_asr.config import CTCConfig


class CTCHead(nn.Module):
    """Encoder representations to CTC log-probabilities.

    Arguments:
        config: its sizes.
        dim: the encoder's.
        silence_frames: at the end of each utterance, which are not the head's.
    """

    def __init__(self, config: CTCConfig, dim: int, silence_frames: int = 0) -> None:
        super().__init__()
        self.silence_frames = silence_frames
        hidden, kernel = config.hidden_dim, config.kernel
        self.stride = config.stride
        self.conv1 = nn.Conv1d(dim, hidden, kernel, stride=config.stride, padding=kernel // 2)
        self.conv2 = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2)
        block = EncoderConfig(
            dim=hidden,
            num_heads=config.num_heads,
            ffn_dim=2 * hidden,
            conv_dim=hidden // 2,
            conv_kernel=config.block_kernel,
        )
        self.blocks = nn.ModuleList(EncoderBlock(block) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(hidden)
        self.vocabulary = nn.Linear(hidden, config.vocab_size)

    def forward(self, encoded: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[B, J, C]` float32, and the frame counts, ceil(sound / stride).

        Arguments:
            encoded: `[B, L, D]`, zero beyond each utterance's frames.
            lengths_B: encoder frames of each utterance, those of silence included, int64 `[B]`.
        """
        x, lengths_B, mask = self._adapted(encoded, lengths_B)
        for block in self.blocks:
            x = block(x, mask)
        return self._log_probs(x), lengths_B

    def after_blocks(self, encoded: Tensor, lengths_B: Tensor) -> tuple[list[Tensor], Tensor]:
        """Log-probabilities after each block, or once where there is none, and frame counts: each as of `forward`."""
        x, lengths_B, mask = self._adapted(encoded, lengths_B)
        found = [] if self.blocks else [self._log_probs(x)]
        for block in self.blocks:
            x = block(x, mask)
            found.append(self._log_probs(x))
        return found, lengths_B

    def _adapted(self, encoded: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The blocks' input `[B, J, hidden]`, frame counts and mask."""
        if self.silence_frames:
            lengths_B = lengths_B - self.silence_frames
            encoded = encoded[:, : int(lengths_B.max())]
            sound = length_mask(lengths_B, encoded.shape[1])
            encoded = encoded if sound is None else encoded * sound[..., None]
        lengths_B = (lengths_B + self.stride - 1) // self.stride
        x = F.gelu(self.conv1(encoded.transpose(1, 2)))
        mask = length_mask(lengths_B, x.shape[-1])
        if mask is not None:
            x = x * mask[:, None]
        return F.gelu(self.conv2(x)).transpose(1, 2), lengths_B, mask

    def _log_probs(self, x: Tensor) -> Tensor:
        return self.vocabulary(self.norm(x)).float().log_softmax(dim=-1)  # type: ignore[no-any-return]
