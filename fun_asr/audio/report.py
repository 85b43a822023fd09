"""What there is to say of a recording beside its samples: what was lost, what was chosen, what looks wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["AudioReport", "Loss", "Track", "clock"]

SAMPLE_RATE = 16_000
LOSSES_KEPT = 1000  # a capture over a bad line may have one every second, for days


def clock(seconds: float) -> str:
    """Seconds as 1:02:03.4, or 2:03.4 below an hour."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    ending = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{ending}" if hours else f"{minutes}:{ending}"


@dataclass(frozen=True)
class Loss:
    """A part of a recording that could not be decoded."""

    start: int
    """Where it begins, in samples at 16 kHz."""
    length: int | None
    """Samples at 16 kHz; None where nothing tells how much is missing."""
    cause: str
    filled: bool = True
    """Whether silence of the same length stands in its place; what is missing at the end leaves nothing behind."""

    @property
    def seconds(self) -> tuple[float, float | None]:
        """Start and length in seconds."""
        return self.start / SAMPLE_RATE, None if self.length is None else self.length / SAMPLE_RATE

    def __str__(self) -> str:
        start, length = self.seconds
        how_long = "a part of unknown length" if length is None else f"{length:.2f} s"
        return f"{how_long} at {clock(start)} lost ({self.cause})"


@dataclass(frozen=True)
class Track:
    """An audio track of a container."""

    number: int
    """Among the audio tracks, from 1."""
    language: str | None = None
    """As the container writes it."""
    title: str | None = None
    codec: str = ""
    channels: int = 0
    default: bool = False


@dataclass
class AudioReport:
    """What was found while a recording was decoded; complete when its last block has been given out."""

    warnings: list[str] = field(default_factory=list)
    """One line each, without the recording's name."""
    lost: list[Loss] = field(default_factory=list)
    """In the order in which they were found; the first thousand."""
    unlisted_losses: int = 0
    """Losses beyond those."""
    tracks: tuple[Track, ...] = ()
    """All audio tracks; empty for formats that have no more than one."""
    track: int | None = None
    """The number of the track that was decoded; None where there are no tracks, or all were."""
    channels: int = 0
    """Most channels that the audio has."""
    links: int = 1
    """Recordings that follow each other in the file."""

    @property
    def incomplete(self) -> bool:
        """Whether something could not be decoded."""
        return bool(self.lost)

    def warn(self, text: str) -> None:
        """Note a line, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def lose(self, loss: Loss) -> None:
        """Note a loss; one that begins where the last one ended, for the same cause, makes that longer."""
        last = self.lost[-1] if self.lost else None
        if last and last.length is not None and last.filled == loss.filled and last.start + last.length == loss.start:
            length = None if loss.length is None else last.length + loss.length
            self.lost[-1] = Loss(last.start, length, last.cause, loss.filled)
        elif len(self.lost) < LOSSES_KEPT:
            if loss not in self.lost[-1:]:
                self.lost.append(loss)
        else:
            self.unlisted_losses += 1

    def merge(self, other: AudioReport) -> None:
        """Add what another pass over the same recording found."""
        for text in other.warnings:
            self.warn(text)
        for loss in other.lost:
            if loss not in self.lost:
                self.lose(loss)
        self.unlisted_losses = max(self.unlisted_losses, other.unlisted_losses)
        self.tracks, self.links = other.tracks or self.tracks, max(self.links, other.links)
        self.track = other.track if self.track is None else self.track
        self.channels = max(self.channels, other.channels)

    def lines(self) -> list[str]:
        """Everything that a user should be told, one line each: the losses in one, then the warnings."""
        if not self.lost:
            return list(self.warnings)
        known = sum(loss.length or 0 for loss in self.lost) / SAMPLE_RATE
        count = len(self.lost) + self.unlisted_losses
        if count <= 3:
            text = "; ".join(map(str, self.lost))
        else:
            first = "; ".join(map(str, self.lost[:3]))
            text = f"{first}; and {count - 3} more, {known:.2f} s in all"
        return [f"incomplete: {text}", *self.warnings]
