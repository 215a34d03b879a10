"""The schemas of what is told. Objects are closed: a field that is not described is a mistake that the tests find."""

from __future__ import annotations

from thinksmith.serve.openapi.words import Schema, array, ref, table, told

STRING: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
MAYBE_STRING: Schema = {"type": ["string", "null"]}
TABLE: Schema = {"type": "object"}
TIME: Schema = {"type": "string", "format": "date-time"}


def openai_error() -> Schema:
    error = told({"message": STRING, "type": STRING, "param": MAYBE_STRING, "code": MAYBE_STRING})
    return told({"error": error})


def ollama_error() -> Schema:
    return told({"error": STRING})


def usage() -> Schema:
    return told(
        {
            "prompt_tokens": COUNT,
            "completion_tokens": COUNT,
            "total_tokens": COUNT,
            "prompt_tokens_details": told({"cached_tokens": COUNT}),
            "completion_tokens_details": told({"reasoning_tokens": COUNT}),
        }
    )


def _logprob(bytes_of: Schema, top: bool = True) -> Schema:
    found = {"token": STRING, "logprob": NUMBER, "bytes": bytes_of}
    return told(found | ({"top_logprobs": array(_logprob(bytes_of, False))} if top else {}))


_BYTES: Schema = {"type": ["array", "null"], "items": {"type": "integer", "minimum": 0, "maximum": 255}}


def chat() -> Schema:
    """A chat completion."""
    called = told({"name": STRING, "arguments": STRING})
    call = told({"id": STRING, "type": {"const": "function"}, "function": called})
    message = told(
        {
            "role": {"const": "assistant"},
            "content": MAYBE_STRING,
            "reasoning_content": STRING,
            "reasoning": STRING,
            "tool_calls": array(call, 1),
            "refusal": NULL,
        },
        "reasoning_content",
        "reasoning",
        "tool_calls",
    )
    logprobs = told({"content": array(_logprob(_BYTES)), "refusal": NULL})
    trace = told(
        {
            "thinking": STRING,
            "answer": STRING,
            "finish": STRING,
            "thinking_tokens": COUNT,
            "answer_tokens": COUNT,
            "chosen": BOOLEAN,
        }
    )
    strategy = told({"why": STRING, "notes": TABLE, "traces": array(trace)}, "traces")
    choice = told(
        {
            "index": COUNT,
            "message": message,
            "logprobs": {"anyOf": [logprobs, NULL]},
            "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
            "strategy": strategy,
        },
        "strategy",
    )
    return told(
        {
            "id": {"type": "string", "pattern": "^chatcmpl-"},
            "object": {"const": "chat.completion"},
            "created": COUNT,
            "model": STRING,
            "choices": array(choice, 1),
            "usage": ref("Usage"),
            "system_fingerprint": MAYBE_STRING,
        }
    )


def completion() -> Schema:
    """A completion of raw text."""
    maybe_number: Schema = {"type": ["number", "null"]}
    likeliest: Schema = {"type": ["object", "null"], "additionalProperties": NUMBER}
    logprobs = told(
        {
            "tokens": array(STRING),
            "token_logprobs": array(maybe_number),
            "top_logprobs": array(likeliest),
            "text_offset": array(COUNT),
        }
    )
    choice = told(
        {
            "index": COUNT,
            "text": STRING,
            "logprobs": {"anyOf": [logprobs, NULL]},
            "finish_reason": {"enum": ["stop", "length"]},
        }
    )
    counts = told({"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT})
    return told(
        {
            "id": {"type": "string", "pattern": "^cmpl-"},
            "object": {"const": "text_completion"},
            "created": COUNT,
            "model": STRING,
            "choices": array(choice, 1),
            "usage": counts,
        }
    )


def _items() -> Schema:
    state: Schema = {"enum": ["completed", "incomplete"]}
    exact: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}
    text = told(
        {
            "type": {"const": "output_text"},
            "text": STRING,
            "annotations": array(TABLE),
            "logprobs": array(_logprob(exact)),
        }
    )
    message = told(
        {
            "id": STRING,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "content": array(text),
            "status": state,
        }
    )
    reasoning = told(
        {
            "id": STRING,
            "type": {"const": "reasoning"},
            "summary": array(told({"type": {"const": "summary_text"}, "text": STRING})),
            "content": array(told({"type": {"const": "reasoning_text"}, "text": STRING})),
            "encrypted_content": NULL,
            "status": state,
        }
    )
    call = told(
        {
            "id": STRING,
            "type": {"const": "function_call"},
            "call_id": STRING,
            "name": STRING,
            "arguments": STRING,
            "status": state,
        }
    )
    return array({"anyOf": [message, reasoning, call]})


def response() -> Schema:
    """A response."""
    counts = told(
        {
            "input_tokens": COUNT,
            "input_tokens_details": told({"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
            "output_tokens": COUNT,
            "output_tokens_details": told({"reasoning_tokens": COUNT}),
            "total_tokens": COUNT,
        }
    )
    asked = {
        "instructions": MAYBE_STRING,
        "max_output_tokens": {"type": ["integer", "null"]},
        "metadata": TABLE,
        "parallel_tool_calls": BOOLEAN,
        "reasoning": told({"effort": MAYBE_STRING, "summary": MAYBE_STRING}),
        "temperature": {"type": ["number", "null"]},
        "text": told({"format": TABLE}),
        "tool_choice": {"type": ["string", "object"]},
        "tools": array(table({"type": {"const": "function"}, "name": STRING}, ["type", "name"])),
        "top_logprobs": {"type": ["integer", "null"]},
        "top_p": {"type": ["number", "null"]},
        "truncation": {"const": "disabled"},
        "user": MAYBE_STRING,
    }
    return told(
        {
            "id": {"type": "string", "pattern": "^resp_"},
            "object": {"const": "response"},
            "created_at": COUNT,
            "model": STRING,
            "status": {"enum": ["completed", "incomplete"]},
            "output": _items(),
            "error": NULL,
            "incomplete_details": {"anyOf": [told({"reason": {"const": "max_output_tokens"}}), NULL]},
            "background": {"const": False},
            "previous_response_id": NULL,
            "store": {"const": False},
            "usage": counts,
            **asked,
        }
    )


def _ended() -> dict[str, Schema]:
    """What stands at the end of Ollama's answers; the last six only where a model answered."""
    return {
        "model": STRING,
        "created_at": TIME,
        "done": {"const": True},
        "done_reason": {"enum": ["stop", "length", "load", "unload"]},
        "logprobs": array(_logprob(_BYTES)),
        "total_duration": COUNT,
        "load_duration": COUNT,
        "prompt_eval_count": COUNT,
        "prompt_eval_duration": COUNT,
        "eval_count": COUNT,
        "eval_duration": COUNT,
    }


_NOT_OF_LOADS = (
    "logprobs",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


def ollama_chat() -> Schema:
    function = told({"index": COUNT, "name": STRING, "arguments": TABLE})
    call = told({"id": STRING, "function": function}, "id")
    message = told(
        {"role": {"const": "assistant"}, "content": STRING, "thinking": STRING, "tool_calls": array(call, 1)},
        "thinking",
        "tool_calls",
    )
    return told({"message": message, **_ended()}, *_NOT_OF_LOADS)


def ollama_generate() -> Schema:
    return told({"response": STRING, "thinking": STRING, **_ended()}, "thinking", *_NOT_OF_LOADS)


def _details() -> Schema:
    names = ("parent_model", "format", "family", "parameter_size", "quantization_level")
    return told({**dict.fromkeys(names, STRING), "families": array(STRING)})


def _listed() -> dict[str, Schema]:
    return {
        "name": STRING,
        "model": STRING,
        "modified_at": TIME,
        "size": COUNT,
        "digest": STRING,
        "details": _details(),
    }


def tags() -> Schema:
    return told({"models": array(told(_listed()))})


def ps() -> Schema:
    more = {"expires_at": TIME, "size_vram": COUNT, "context_length": COUNT}
    return told({"models": array(told(_listed() | more))})


def show() -> Schema:
    texts = dict.fromkeys(("license", "modelfile", "parameters", "template"), STRING)
    capabilities = array({"enum": ["completion", "tools", "thinking"]})
    more = {"details": _details(), "model_info": TABLE, "capabilities": capabilities, "modified_at": TIME}
    return told({**texts, **more})


def version() -> Schema:
    return told({"version": STRING, "thinksmith": STRING})


def model() -> Schema:
    """An entry of /v1/models."""
    usual = {"id": STRING, "object": {"const": "model"}, "created": COUNT, "owned_by": STRING}
    return table(usual, list(usual))


def models() -> Schema:
    return told({"object": {"const": "list"}, "data": array(ref("Model"))})


def shared() -> dict[str, Schema]:
    """The schemas that stand by themselves."""
    return {
        "Usage": usage(),
        "Model": model(),
        "OpenAIError": openai_error(),
        "OllamaError": ollama_error(),
        "ChatCompletion": chat(),
        "Completion": completion(),
        "Response": response(),
        "OllamaChat": ollama_chat(),
        "OllamaGenerate": ollama_generate(),
    }
