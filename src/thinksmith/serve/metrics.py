"""Counts of what is served, in Prometheus's text format (version 0.0.4), and the access log.

Neither knows a prompt, a thought or an answer: a request is its route, its status, its model and its numbers. Models
are counted by what the operator named, so no client can make new series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from thinksmith.serve.gate import Gate

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_GAUGES = (
    ("thinksmith_running", "Completions that hold a place now"),
    ("thinksmith_waiting", "Requests in the queue now"),
    ("thinksmith_places", "Completions that may run at one time"),
)
LEFT = 499  # the status of a request whose client left, as nginx writes it


@dataclass(eq=False, slots=True)
class Call:
    """One request as it is counted: `tokens` are those of the prompt, the thinking and the answer."""

    route: str
    began: float
    client: str = ""
    model: str = ""
    status: int = 0
    first: float | None = None  # seconds to the first piece
    prompt: int = 0
    thinking: int = 0
    answer: int = 0
    finished: int = 0  # completions


class Metrics:
    """What was served since the start. `log` gets a line a request."""

    def __init__(self, log: Callable[[str], None] | None = None) -> None:
        self._log = log
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.tokens: Counter[tuple[str, str]] = Counter()
        self.durations: dict[str, Histogram] = {}
        self.firsts: dict[str, Histogram] = {}
        self.completions: Counter[str] = Counter()
        self.unsaved = 0
        self.at_work = 0

    def end(self, call: Call, now: float) -> None:
        """The request is over."""
        seconds = now - call.began
        self.requests[call.route, call.model, call.status] += 1
        if call.model:
            self.durations.setdefault(call.model, Histogram()).add(seconds)
            if call.first is not None:
                self.firsts.setdefault(call.model, Histogram()).add(call.first)
            self.completions[call.model] += call.finished
            for kind, count in (("prompt", call.prompt), ("thinking", call.thinking), ("answer", call.answer)):
                self.tokens[call.model, kind] += count
        if self._log:
            tokens = f" {call.prompt}+{call.thinking}+{call.answer} tokens" if call.finished else ""
            self._log(f"{call.client} {call.route} {call.status} {call.model or '-'} {seconds:.3f}s{tokens}")

    def text(self, gates: Iterable[tuple[str, Gate]]) -> str:
        """All of it, as Prometheus reads it."""
        lines: list[str] = []
        _write(
            lines,
            "thinksmith_requests_total",
            "counter",
            "Requests by route, model and HTTP status (499: the client left)",
            [
                ((("route", route), ("model", model), ("status", str(status))), count)
                for (route, model, status), count in sorted(self.requests.items())
            ],
        )
        _write(
            lines,
            "thinksmith_tokens_total",
            "counter",
            "Tokens of answered requests: of prompts, sampled as thinking, sampled as answer",
            [((("model", model), ("kind", kind)), count) for (model, kind), count in sorted(self.tokens.items())],
        )
        _write(
            lines,
            "thinksmith_completions_total",
            "counter",
            "Completions that came to their end",
            [((("model", model),), count) for model, count in sorted(self.completions.items())],
        )
        now = [(name, (gate.running, gate.waiting, gate.places)) for name, gate in gates]
        for at, (name, about) in enumerate(_GAUGES):
            _write(lines, name, "gauge", about, [((("model", model),), numbers[at]) for model, numbers in now])
        _write(lines, "thinksmith_open_requests", "gauge", "Requests that are being served now", [((), self.at_work)])
        _write(lines, "thinksmith_unsaved_total", "counter", "Attempts that could not be kept", [((), self.unsaved)])
        for name, about, found in (
            ("thinksmith_request_seconds", "Seconds from a request's first byte to its answer's last", self.durations),
            ("thinksmith_first_piece_seconds", "Seconds until the first piece of an answer was there", self.firsts),
        ):
            lines += [f"# HELP {name} {about}", f"# TYPE {name} histogram"]
            for model, histogram in sorted(found.items()):
                lines += histogram.lines(name, model)
        return "\n".join(lines) + "\n"


class Histogram:
    """Seconds in the buckets of `SECONDS`."""

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str, model: str) -> list[str]:
        found, below = [], 0
        for bound, count in zip([*map(str, SECONDS), "+Inf"], self._counts, strict=True):
            below += count
            found.append(f"{name}_bucket{_labels((('model', model), ('le', bound)))} {below}")
        label = _labels((("model", model),))
        return [*found, f"{name}_sum{label} {self._sum:.6f}", f"{name}_count{label} {below}"]


_Labels = tuple[tuple[str, str], ...]


def _write(lines: list[str], name: str, kind: str, about: str, values: Sequence[tuple[_Labels, float]]) -> None:
    lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {value}" for labels, value in values]


def _labels(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
