"""A refusal as OpenAI writes it."""

from __future__ import annotations

from typing import Any

from thinksmith.serve.asked import Refusal

_TYPES = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    408: ("invalid_request_error", "request_timeout"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    502: ("server_error", "bad_gateway"),
    503: ("server_error", "unavailable"),
}


def error(refusal: Refusal) -> dict[str, Any]:
    """The body of a response with the refusal's status. `code` tells a program what `message` tells people."""
    kind, code = _TYPES.get(refusal.status, ("server_error", None) if refusal.status >= 500 else (_MISTAKE, None))
    if refusal.status == 404 and refusal.field == "model":
        code = "model_not_found"
    if refusal.field == "messages" and "context" in refusal.message:
        code = "context_length_exceeded"
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.field or None, "code": code}}


_MISTAKE = "invalid_request_error"
