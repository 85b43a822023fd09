"""What a server counts, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter

__all__ = ["Metrics"]

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Counters that several threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._latency: dict[str, list[int]] = {}
        self._latency_sum: dict[str, float] = {}
        self._totals: Counter[str] = Counter()
        self._seconds = {"audio": 0.0, "compute": 0.0}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Arguments:
            route: one of the server's own paths, so that clients cannot make more of them.
            status: of HTTP.
            seconds: from its first line to the end of the answer.
        """
        with self._lock:
            self._requests[route, status] += 1
            self._latency.setdefault(route, [0] * (len(BOUNDS) + 1))[bisect_left(BOUNDS, seconds)] += 1
            self._latency_sum[route] = self._latency_sum.get(route, 0.0) + seconds

    def batch(self, segments: int, audio: float, compute: float) -> None:
        """Count a batch of the model: its segments, their seconds, and the seconds that it took."""
        with self._lock:
            self._totals["fun_asr_batches_total"] += 1
            self._totals["fun_asr_segments_total"] += segments
            self._seconds["audio"] += audio
            self._seconds["compute"] += compute

    def stream_error(self) -> None:
        """Count a live stream that ended with an error."""
        with self._lock:
            self._totals["fun_asr_stream_errors_total"] += 1

    def render(self, gauges: dict[str, float]) -> str:
        """All of it.

        Arguments:
            gauges: what is true now, by name.
        """
        with self._lock:
            lines = ["# TYPE fun_asr_requests_total counter"]
            for (route, status), count in sorted(self._requests.items()):
                lines.append(f'fun_asr_requests_total{{route="{route}",status="{status}"}} {count}')
            lines.append("# TYPE fun_asr_request_seconds histogram")
            for route, buckets in sorted(self._latency.items()):
                total = 0
                for bound, count in zip([*map(str, BOUNDS), "+Inf"], buckets, strict=True):
                    total += count
                    lines.append(f'fun_asr_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}')
                lines.append(f'fun_asr_request_seconds_sum{{route="{route}"}} {self._latency_sum[route]:.6f}')
                lines.append(f'fun_asr_request_seconds_count{{route="{route}"}} {total}')
            for kind, seconds in self._seconds.items():
                lines += [f"# TYPE fun_asr_{kind}_seconds_total counter"]
                lines += [f"fun_asr_{kind}_seconds_total {seconds:.6f}"]
            for name in ("fun_asr_batches_total", "fun_asr_segments_total", "fun_asr_stream_errors_total"):
                lines += [f"# TYPE {name} counter", f"{name} {self._totals[name]}"]
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
