"""What can go wrong between us and an endpoint, each as one line for people."""

from __future__ import annotations

from thinksmith.errors import UserError, one_line

_MOST = 200  # characters of what a server says


class Fault(UserError):
    """A call failed. `retryable`: the same call may do later. `after` is how many seconds the server asked to wait."""

    retryable = False

    def __init__(self, message: str, *, status: int | None = None, after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.after = status, after


class Refused(Fault):
    """The server understood and will not: a wrong parameter, a prompt that is too long."""


class Denied(Fault):
    """A key is missing or wrong, or does not cover this."""


class Busy(Fault):
    """Too many requests, or no room just now."""

    retryable = True


class Failed(Fault):
    """The server broke down over it (HTTP 5xx)."""

    retryable = True


class Unreachable(Fault):
    """Nobody answers there, or the circuit breaker does not let us ask."""

    retryable = True


class TimedOut(Fault):
    """Nothing came for longer than we wait."""

    retryable = True


class Broken(Fault):
    """The connection was cut in the middle."""

    retryable = True


class Garbled(Fault):
    """What came is not what was asked for: no JSON, a web page, a stream of something else."""

    retryable = True


def told(text: object, secrets: tuple[str, ...] = ()) -> str:
    """What a server said, fit to stand in a line: short, printable, without a secret that it sent back."""
    line = str(text)
    for secret in secrets:
        if secret:
            line = line.replace(secret, "…")
    return one_line(ValueError("".join(c if c.isprintable() else " " for c in line[: 20 * _MOST])))[:_MOST]
