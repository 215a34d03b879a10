"""The description itself: each path, what it takes, and every status that can come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith import __version__
from thinksmith.serve.dialect import About
from thinksmith.serve.openapi import answers, requests
from thinksmith.serve.openapi.words import Schema, json_of, ref, table

_SSE = "text/event-stream"
_LINES = "application/x-ndjson"
# Before OpenAPI 3.2 the schema of an event stream is that of each event.
_TEXT: Schema = {"type": "string"}
_EVENT: Schema = {"type": "object", "properties": {"event": _TEXT, "data": _TEXT}, "required": ["data"]}
_WHY = {
    400: "the request is wrong, and the message says in what",
    401: "the token is missing or wrong",
    403: "the Host or Origin is not this server's",
    404: "there is no such model or path",
    408: "the body came too slowly",
    413: "the body is too large",
    429: "too many wait already: come again after Retry-After seconds",
    500: "a mistake of the server's",
    502: "the endpoint behind this server failed",
    503: "the server is shutting down",
}
_WAITS = (429, 503)
_ALWAYS = (400, 401, 403)
_WITH_BODY = (400, 401, 403, 408, 413)
_OF_MODELS = (*_WITH_BODY, 404, 429, 500, 502, 503)


def describe(listed: Sequence[About]) -> dict[str, Any]:
    """The whole description, for the models that are served."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "thinksmith serve",
            "version": __version__,
            "description": "OpenAI's and Ollama's APIs over any engine and any strategy. Behind a name may stand "
            "a strategy: `MODEL:vote@8`. Fields that are not described here are passed over.",
        },
        "security": [{}, {"token": []}],
        "paths": _openai() | _ollama() | _own(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"ModelName": _model_name(listed), **requests.shared(), **answers.shared()},
        },
    }


def _model_name(listed: Sequence[About]) -> Schema:
    """Names that are listed, and those with a strategy behind them."""
    names = [about.name for about in listed]
    bases = "|".join(re.escape(about.name) for about in listed if not about.strategy)
    return {
        "anyOf": [{"enum": names}, {"type": "string", "pattern": f"^({bases}):[a-z_@=,0-9.]+$"}],
        "description": "a model's name, or MODEL:STRATEGY",
    }


def _openai() -> dict[str, Any]:
    model = ref("ModelName")
    return {
        "/v1/chat/completions": _post("chat", requests.chat(model), ref("ChatCompletion"), stream=_SSE),
        "/v1/completions": _post("complete", requests.completions(model), ref("Completion"), stream=_SSE),
        "/v1/responses": _post("respond", requests.responses(model), ref("Response"), stream=_SSE),
        "/v1/models": _get("models", json_of(answers.models())),
        "/v1/models/{model}": _get("model", json_of(ref("Model")), (404,), path="model"),
    }


def _ollama() -> dict[str, Any]:
    model = ref("ModelName")
    chat, generate = requests.ollama_chat(model), requests.ollama_generate(model)
    error = ref("OllamaError")
    return {
        "/api/chat": _post("ollama_chat", chat, ref("OllamaChat"), stream=_LINES, error=error),
        "/api/generate": _post("ollama_generate", generate, ref("OllamaGenerate"), stream=_LINES, error=error),
        "/api/show": _post("show", requests.show(model), answers.show(), (*_WITH_BODY, 404), error=error),
        "/api/tags": _get("tags", json_of(answers.tags()), error=error),
        "/api/ps": _get("ps", json_of(answers.ps()), error=error),
        "/api/version": _get("version", json_of(answers.version()), error=error),
    }


def _own() -> dict[str, Any]:
    anything = {"schema": {"type": "string"}}
    return {
        "/audit": _post("audit", requests.audit(), {"type": "object"}, (*_WITH_BODY, 429)),
        "/health": _get("health", json_of(table({"status": {"type": "string"}}, ["status"])), (503,), open_=True),
        "/metrics": _get("metrics", {"text/plain": anything}),
        "/openapi.json": _get("openapi", json_of({"type": "object"})),
        "/": _get("page", {"text/html": anything}, open_=True),
    }


def _post(
    name: str,
    asked: Schema,
    told: Schema,
    statuses: Sequence[int] = _OF_MODELS,
    *,
    stream: str = "",
    error: Schema | None = None,
) -> dict[str, Any]:
    content = json_of(told) | ({stream: {"schema": _EVENT if stream == _SSE else _TEXT}} if stream else {})
    body = {"required": True, "content": json_of(asked)}
    answers_ = {"200": {"description": "the answer", "content": content}} | _errors(statuses, error)
    return {"post": {"operationId": name, "requestBody": body, "responses": answers_}}


def _get(
    name: str,
    content: Mapping[str, Any],
    statuses: Sequence[int] = (),
    *,
    path: str = "",
    error: Schema | None = None,
    open_: bool = False,
) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": name}
    if path:
        schema: Schema = {"type": "string", "minLength": 1, "pattern": r"^[^/\\?#%]+$"}
        found["parameters"] = [{"name": path, "in": "path", "required": True, "schema": schema}]
    if open_:
        found["security"] = []
    guarded = (400, 403) if open_ else _ALWAYS
    answers_ = {"200": {"description": "what there is", "content": dict(content)}}
    return {"get": found | {"responses": answers_ | _errors((*guarded, *statuses), error)}}


def _errors(statuses: Sequence[int], error: Schema | None) -> dict[str, Any]:
    content = json_of(error or ref("OpenAIError"))
    retry = {"headers": {"Retry-After": {"schema": {"type": "integer", "minimum": 0}}}}
    return {
        str(status): {"description": _WHY[status], "content": content} | (retry if status in _WAITS else {})
        for status in sorted(set(statuses))
    }
