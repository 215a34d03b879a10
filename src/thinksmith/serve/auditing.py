"""`POST /audit`: what the audit room finds in a trace that the client sends, for the page at `/`."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from thinksmith.records import Trace
from thinksmith.serve.answering import Limits, read_body
from thinksmith.serve.asked import Refusal
from thinksmith.serve.fields import Fields, body_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

LONGEST = 100_000  # characters of a trace, about 30,000 tokens; the worst of them take seconds
WAITING = 8  # audits that may wait; one runs at a time, since each takes time from the engine's thread


def read(body: dict[str, Any]) -> Trace:
    """The trace of a body `{"thinking", "answer", "thinking_tokens", "answer_tokens"}`; one of the texts may be
    missing. Raises Refusal."""
    fields = Fields(body)
    thinking, answer = fields.text("thinking") or "", fields.text("answer") or ""
    if not (thinking.strip() or answer.strip()):
        raise Refusal("there is no text to audit: send thinking, answer or both", field="thinking")
    if len(thinking) + len(answer) > LONGEST:
        raise Refusal(f"at most {LONGEST:,} characters can be audited", status=413, field="thinking")
    return Trace(
        thinking,
        answer,
        thinking_tokens=fields.whole("thinking_tokens", 0, 2**31) or 0,
        answer_tokens=fields.whole("answer_tokens", 0, 2**31) or 0,
    )


class Auditing:
    """Audits run in a thread of their own, one after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "audit")
        self._asked = 0

    async def answer(self, request: Request) -> Response:
        """`Audit.to_dict()` as JSON: offsets count characters. Raises Refusal, 429 where many wait already."""
        from starlette.responses import JSONResponse

        trace = read(body_of(await read_body(request.receive, Limits())))
        if self._asked > WAITING:
            raise Refusal("other audits are waiting: come again", status=429, retry_after=1)
        self._asked += 1
        try:
            return JSONResponse(await asyncio.get_running_loop().run_in_executor(self._thread, _found, trace))
        finally:
            self._asked -= 1


def _found(trace: Trace) -> dict[str, Any]:
    from thinksmith.audit import audit

    return audit(trace).to_dict()


audited = Auditing().answer
