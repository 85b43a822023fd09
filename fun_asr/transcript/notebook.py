"""A transcript as notebooks show it."""

from __future__ import annotations

from html import escape

from fun_asr.transcript.data import Transcript

__all__ = ["as_html"]

ROWS = 200


def as_html(transcript: Transcript) -> str:
    """A heading and a table of the first segments, of markup that every notebook shows."""
    facts = [f"{transcript.duration:.1f} s", transcript.language or "", "incomplete" * transcript.incomplete]
    several = len(transcript.voices) > 1
    voices = {id(segment): name for name, segments in transcript.voices.items() for segment in segments}
    rows = []
    for segment in transcript.segments[:ROWS]:
        cells = [f"{segment.start:.2f}", f"{segment.end:.2f}"]
        cells += [escape(voices[id(segment)] or "")] * several
        rows.append("".join(f"<td>{cell}</td>" for cell in (*cells, escape(segment.text))))
    heads = ["start", "end", *(["voice"] * several), "text"]
    lines = [
        f"<p><b>{escape(transcript.path or 'samples')}</b> {escape(', '.join(filter(None, facts)))}</p>",
        "<table><thead><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr></thead><tbody>",
        *(f"<tr>{row}</tr>" for row in rows),
        "</tbody></table>",
    ]
    if len(transcript.segments) > ROWS:
        lines.append(f"<p>and {len(transcript.segments) - ROWS} more segments</p>")
    return "\n".join(lines)
