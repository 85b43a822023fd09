"""Put what FFmpeg's libraries decode where the container's presentation time stamps say, and see what is missing.

All times are whole numbers of samples at the stream's rate, so that none drifts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

from fun_asr.audio.containers import Damage
from fun_asr.audio.pieces import Frames, Hole, Piece

__all__ = ["Decoded", "Timeline", "packets", "values_of"]

JITTER = 0.1  # seconds: what time stamps are off without anything missing (coarse clocks, codecs' look-ahead)
LEAD = 0.02  # seconds: a later beginning is meant
LOST = 0.015  # seconds: where something is known to be lost, a shorter step than the shortest common packet
RESTART = 1.0  # seconds back: a new count, not a clock that runs slowly
LONGEST_GAP = 6 * 3600  # seconds, where the container does not say how long it is
FEW_PACKETS = 2
QUIET = 1e-3  # a frame that stays below it may be left out where time stamps fall behind the samples
ABSOLUTE = ("matroska", "mov")  # containers whose time begins at zero, whatever is in them
BOUNDED = (*ABSOLUTE, "flac", "asf", "wav", "caf")  # containers whose header states the length
MICROSECONDS = 1_000_000  # a second, as libav counts

Decoded = tuple["av.Packet[av.AudioStream] | None", list[av.AudioFrame], str | None]
"""A packet, its frames, and the decoder's complaint; no packet where the container itself cannot be read on."""


def packets(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[Decoded]:
    """Every packet of a stream, decoded; a packet's failure leaves the others."""
    try:
        for packet in container.demux(stream):
            try:
                yield packet, packet.decode(), None
            except av.EOFError:
                return
            except av.FFmpegError as error:
                yield packet, [], _message(error)
    except av.FFmpegError as error:
        yield None, [], _message(error)


def _message(error: av.FFmpegError) -> str:
    # Decoders give what they cannot make sense of all sorts of names, "Operation not permitted" among them.
    memory = isinstance(error, MemoryError)
    return "not enough memory" if memory else "the data there is damaged"


class Timeline:
    """Places the frames of one stream.

    Arguments:
        container: where the stream is.
        stream: the audio stream.
        damage: what is known to be wrong with the file.
        frames: how many packets a header promises, for streams without time stamps of their own.
        size: bytes of the file, for such streams only: their lost packets are told from lost bytes.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.AudioStream,
        damage: Damage | None = None,
        frames: int | None = None,
        size: int | None = None,
    ) -> None:
        self._damage = damage
        self._rate = self._zero_samples = self._longest_samples = 1
        self._position = 0  # samples placed
        self._shift = 0  # samples between time stamps and places
        self._begun = False
        self._cause: str | None = None  # of a failure not yet placed
        self._failed_seconds = Fraction(0)
        self._losses = 0
        name = container.format.name
        length = Fraction(container.duration or 0, MICROSECONDS)
        begin = Fraction(container.start_time or 0, MICROSECONDS)
        # A live stream that was joined late carries its sender's clock, which its own length does not reach.
        absolute = name.startswith(ABSOLUTE) and 0 < begin <= length
        self._zero = Fraction(0) if absolute else begin
        self._longest = length + 60 if length and name.startswith(BOUNDED) else Fraction(LONGEST_GAP)
        self._set_rate(stream.codec_context.rate or 1)
        self._base: tuple[int, int] | None = None  # the frames' time base
        self._end: Fraction | None = None
        if name.startswith(BOUNDED) and stream.duration and stream.time_base:
            self._end = (stream.duration + (stream.start_time or 0)) * stream.time_base - self._zero
        elif name.startswith(BOUNDED) and length and len(container.streams) == 1:
            self._end = length
        self._counter = _Counter(size, frames) if size is not None else None

    def place(self, decoded: Iterable[Decoded]) -> Iterator[Piece]:
        """Frames and holes, in their order."""
        for packet, frames, error in decoded:
            if self._counter is not None and packet is not None:
                self._counter.see(packet, error is not None)
            if error is not None:
                self._fail(error, packet)
            elif packet is not None and packet.is_corrupt:
                self._fail("its packets are damaged", packet)
            for frame in frames:
                yield from self._place(frame)
        yield from self._finish()

    def _set_rate(self, rate: int) -> None:
        self._rate = rate
        self._zero_samples, self._longest_samples = int(self._zero * rate), int(self._longest * rate)

    def _fail(self, cause: str, packet: av.Packet[av.AudioStream] | None) -> None:
        # Silence behind the last packet is padding.
        if packet is not None and packet.size and not any(bytes(packet)):
            cause = self._cause or ""
        self._cause = self._cause or cause
        if packet is not None and packet.duration and packet.time_base:
            self._failed_seconds += packet.duration * packet.time_base

    def _place(self, frame: av.AudioFrame) -> Iterator[Piece]:
        rate = frame.sample_rate
        if rate != self._rate:
            self._position = self._position * rate // self._rate
            self._shift = self._shift * rate // self._rate
            self._set_rate(rate)
        missing = self._missing(frame)
        if missing < 0:
            return
        if missing:
            # Where something was lost, or the file is known to be damaged, a gap is its trace.
            cause = self._cause or (self._damage.cause if self._damage and self._begun else None)
            self._losses += cause is not None
            yield Hole(rate, missing, cause)
            self._position += missing
        if self._cause is not None:
            self._cause, self._failed_seconds = None, Fraction(0)
        self._begun = True
        self._position += frame.samples
        yield Frames(rate, values_of(frame))

    def _missing(self, frame: av.AudioFrame) -> int:
        """Samples missing before a frame; -1 where it is not needed itself."""
        if self._counter is not None:
            return self._counter.missing(frame.samples)
        if frame.pts is None or (self._base is None and frame.time_base is None):
            return round(self._failed_seconds * self._rate)
        if self._base is None:
            # The same for all of a stream's frames, and costly to ask for.
            base = frame.time_base or Fraction(1)
            self._base = (base.numerator, base.denominator)
        at = frame.pts * self._base[0] * self._rate // self._base[1]
        ahead = at - self._zero_samples + self._shift - self._position
        if (not self._begun and ahead < 0) or ahead < -RESTART * self._rate or ahead > self._longest_samples:
            self._shift -= ahead
            return round(self._failed_seconds * self._rate)
        if self._position + ahead > 2 * self._longest_samples:
            self._shift -= ahead
            return 0
        known_loss = self._cause is not None or self._damage is not None
        tolerance = LEAD if not self._begun else LOST if known_loss else JITTER
        if ahead > tolerance * self._rate:
            return ahead
        if ahead < -JITTER * self._rate and np.abs(values_of(frame)).max(initial=0.0) < QUIET:
            return -1
        return 0

    def _finish(self) -> Iterator[Piece]:
        damage = self._damage
        cause = self._cause or (damage.cause if damage else None)
        left = None if self._end is None else round(self._end * self._rate) - self._position
        if self._counter is not None:
            left = self._counter.left()
            if left is not None:
                # Behind a hole, of which the bytes tell the length only nearly, the count says little.
                cut_short = None if self._losses else "cut short: its header promises more"
                cause = (cause or cut_short) if left > 0 else None
        if not cause or not self._begun:
            return
        if left is not None and left > JITTER * self._rate:
            yield Hole(self._rate, left, cause, filled=False)
        elif self._cause:
            yield Hole(self._rate, round(self._failed_seconds * self._rate) or None, cause, filled=False)
        elif damage and damage.missing:
            missing = round(self._position * damage.missing / (1 - damage.missing))
            yield Hole(self._rate, missing, cause, filled=False)
        elif damage and not self._losses:
            yield Hole(self._rate, None, cause, filled=False)


class _Counter:
    """How many packets lost bytes stand for, in streams that are packets and nothing else.

    Arguments:
        size: bytes of the file.
        promised: packets that a header counts; None without one.
    """

    def __init__(self, size: int, promised: int | None) -> None:
        self._size, self._promised = size, promised
        self._good = self._good_bytes = 0
        self._skipped = 0
        self._next: int | None = None
        self._samples = 0  # of a packet

    def see(self, packet: av.Packet[av.AudioStream], failed: bool) -> None:
        """Take note of a packet, in the order of the file."""
        size, position = packet.size, packet.pos
        if not size:
            return
        if position is not None and position >= 0:
            between = 0 if self._next is None else position - self._next
            # Whole packets only: where a packet begins is not always known to the byte.
            if between > 0 and self._good and between > 0.8 * self._good_bytes / self._good:
                self._skipped += between
            self._next = position + size
        if failed:
            self._skipped += size
        else:
            self._good += 1
            self._good_bytes += size

    def missing(self, samples: int) -> int:
        """Samples lost before a frame of so many."""
        if samples > self._samples:
            self._samples = samples
        if not self._skipped:
            return 0
        skipped, self._skipped = self._skipped, 0
        if self._good < 2:
            return 0
        mean = self._good_bytes / self._good
        lost = round(skipped / mean)
        if self._promised is not None and self._next is not None:
            lost = min(lost, self._promised - self._good - round((self._size - self._next) / mean))
        return max(0, lost) * self._samples

    def left(self) -> int | None:
        """Samples that are promised and did not come; None where nothing is promised."""
        if self._promised is None:
            return None
        left = self._promised - self._good
        # Encoders disagree about whether the packet with the count is one itself.
        return left * self._samples if left > FEW_PACKETS else 0


def values_of(frame: av.AudioFrame) -> npt.NDArray[np.float32]:
    """A frame of any sample format -> float32 [n, C]."""
    values = frame.to_ndarray()  # planar [C, n], packed [1, n * C]
    kind = values.dtype
    if frame.format.is_planar or values.shape[1] == frame.samples:
        values = values.T
    else:
        values = values.reshape(-1, len(frame.layout.channels))
    if kind == np.float32:
        return values.astype(np.float32, copy=False)
    if kind == np.uint8:
        return (values.astype(np.float32) - np.float32(128)) / np.float32(128)
    if kind.kind == "i":
        return values.astype(np.float32) / np.float32(2.0 ** (8 * kind.itemsize - 1))
    return values.astype(np.float32)
