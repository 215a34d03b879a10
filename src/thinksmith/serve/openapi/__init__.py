"""The OpenAPI 3.1 description of what is served: `GET /openapi.json`.

It is exact enough to hold the server against it: every status that can come is there, every answer has its schema, and
what a request's schema forbids is refused. What it cannot say (a prompt longer than the context, a tool_choice that is
none of the tools) is refused with the same 400.
"""

from __future__ import annotations

from thinksmith.serve.openapi.paths import describe

__all__ = ["describe"]
