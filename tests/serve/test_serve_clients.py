"""The clients that people have, against a server with `tiny` on loopback: what they send is read, and they read us."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

QUESTION = "What is 3 + 4?"
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
SHAPE = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def needs(package: str) -> Any:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `thinksmith serve tiny tiny:vote@4`, in a process of its own."""
    home = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "thinksmith", "serve", "tiny", "tiny:vote@4", "--port", "0", "--quiet"]
    told = home / "stderr"
    with told.open("w") as out:
        process = subprocess.Popen(command, stderr=out, stdout=out, cwd=home, env={**os.environ, "HOME": str(home)})
    try:
        for _ in range(1200):
            if found := re.search(r"http://127\.0\.0\.1:\d+", told.read_text()):
                break
            assert process.poll() is None, told.read_text()
            signal.sigtimedwait([], 0.1)
        else:
            raise AssertionError(told.read_text())
        yield found.group()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM), told.read_text()
    assert "Traceback" not in told.read_text(), told.read_text()


# ---- openai


@pytest.fixture(scope="module")
def client(server: str) -> Any:
    from openai import OpenAI

    return OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=60)


CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}


def test_openai_chat(client: Any) -> None:
    said = client.chat.completions.create(**CHAT, logprobs=True, top_logprobs=2, n=2)
    assert [choice.index for choice in said.choices] == [0, 1]
    for choice in said.choices:
        assert "7" in choice.message.content
        assert choice.message.reasoning_content == choice.message.reasoning
        assert "".join(each.token for each in choice.logprobs.content).strip() == choice.message.content
        assert all(len(each.top_logprobs) == 2 for each in choice.logprobs.content)
    details = said.usage.completion_tokens_details
    assert 0 < details.reasoning_tokens < said.usage.completion_tokens


def test_openai_chat_streamed_is_the_whole_answer(client: Any) -> None:
    whole = client.chat.completions.create(**CHAT).choices[0].message
    chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.content
    assert "".join(getattr(delta, "reasoning_content", "") or "" for delta in deltas) == whole.reasoning_content
    assert chunks[-1].usage.completion_tokens > 0
    assert not chunks[-1].choices


def test_openai_async_clients_share_the_batch(server: str) -> None:
    from openai import AsyncOpenAI

    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=120) as client:
            found = await asyncio.gather(*(client.chat.completions.create(**CHAT) for _ in range(8)))
            stream = await client.chat.completions.create(**CHAT, stream=True)
            last = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        return [*(each.choices[0].message.content or "" for each in found), last]

    assert len(set(asyncio.run(ask()))) == 1


def test_openai_tools(client: Any) -> None:
    choice = {"type": "function", "function": {"name": "add"}}
    said = client.chat.completions.create(**CHAT, reasoning_effort="none", tools=[ADD], tool_choice=choice)
    (call,) = said.choices[0].message.tool_calls
    assert said.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "add"
    assert set(json.loads(call.function.arguments)) == {"a", "b"}
    told = {"role": "tool", "tool_call_id": call.id, "content": "7"}
    talk = [*CHAT["messages"], said.choices[0].message.model_dump(exclude_none=True), told]
    after = client.chat.completions.create(**{**CHAT, "messages": talk}, tools=[ADD], max_tokens=300)
    assert after.choices[0].message.role == "assistant"


def test_openai_tools_streamed(client: Any) -> None:
    choice = {"type": "function", "function": {"name": "add"}}
    with client.chat.completions.stream(**CHAT, reasoning_effort="none", tools=[ADD], tool_choice=choice) as stream:
        said = stream.get_final_completion()
    (call,) = said.choices[0].message.tool_calls
    assert call.function.name == "add"
    assert set(json.loads(call.function.arguments)) == {"a", "b"}


def test_openai_structured_output(client: Any) -> None:
    from pydantic import BaseModel

    class Answer(BaseModel):
        answer: int

    said = client.chat.completions.parse(**CHAT, response_format=Answer)
    assert isinstance(said.choices[0].message.parsed, Answer)


def test_openai_completions_echo_and_score(client: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": ["3 + 4 = 7", "3 + 4 = 9"], "temperature": 0, "logprobs": 1}
    scored = client.completions.create(**asked, echo=True, max_tokens=0)
    sums = []
    for choice, prompt in zip(scored.choices, asked["prompt"], strict=True):
        told = choice.logprobs
        assert choice.text == prompt == "".join(told.tokens)
        assert told.token_logprobs[0] is None
        assert [prompt[at:].startswith(token) for at, token in zip(told.text_offset, told.tokens, strict=True)]
        sums.append(told.token_logprobs[-1])
    assert sums[0] > sums[1], "the model knows which sum is right"
    assert scored.usage.completion_tokens == 0

    more = client.completions.create(**asked, echo=True, max_tokens=3)
    for before, after in zip(scored.choices, more.choices, strict=True):
        assert after.text.startswith(before.text)
        count = len(before.logprobs.tokens)
        assert after.logprobs.token_logprobs[1:count] == pytest.approx(before.logprobs.token_logprobs[1:], abs=1e-4)


def test_openai_completions_score_is_that_of_sampling(client: Any) -> None:
    """What was sampled, scored as a prompt, has the log-probabilities that it was sampled with."""
    made = client.completions.create(model="tiny", prompt=QUESTION, temperature=0, max_tokens=8, logprobs=1)
    text = QUESTION + made.choices[0].text
    again = client.completions.create(model="tiny", prompt=text, temperature=0, max_tokens=0, logprobs=1, echo=True)
    mine, theirs = made.choices[0].logprobs, again.choices[0].logprobs
    assert theirs.tokens[-len(mine.tokens) :] == mine.tokens
    assert theirs.token_logprobs[-len(mine.tokens) :] == pytest.approx(mine.token_logprobs, abs=1e-4)


def test_openai_completions_streamed_is_the_whole_answer(client: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": [QUESTION, "2 + 2"], "temperature": 0, "max_tokens": 60, "n": 2}
    whole = client.completions.create(**asked)
    texts = {choice.index: "" for choice in whole.choices}
    for chunk in client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == {choice.index: choice.text for choice in whole.choices}
    assert sorted(texts) == [0, 1, 2, 3]
    assert texts[0] == texts[1] != texts[2]


def test_openai_completions_best_of(client: Any) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "prompt": QUESTION,
        "temperature": 1,
        "max_tokens": 12,
        "seed": 5,
        "logprobs": 0,
    }
    every = client.completions.create(**asked, n=4)
    best = client.completions.create(**asked, best_of=4)

    def mean(choice: Any) -> float:
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    assert best.choices[0].text == max(every.choices, key=mean).text
    assert best.usage.completion_tokens == every.usage.completion_tokens


ASKED: dict[str, Any] = {"model": "tiny", "input": QUESTION, "temperature": 0}
AT_ONCE: dict[str, Any] = {**ASKED, "reasoning": {"effort": "none"}}  # with tools in sight `tiny` may think without end


def test_openai_responses(client: Any) -> None:
    said = client.responses.create(**ASKED, metadata={"a": "b"})
    reasoning, message = said.output
    assert (reasoning.type, message.type, said.status) == ("reasoning", "message", "completed")
    assert reasoning.content[0].text
    assert "7" in said.output_text
    assert said.usage.output_tokens_details.reasoning_tokens > 0
    again = [{"role": "user", "content": QUESTION}, *said.output, {"role": "user", "content": "What is 5 + 6?"}]
    after = client.responses.create(**{**ASKED, "input": again}, instructions="Be brief.", max_output_tokens=300)
    assert after.usage.input_tokens > said.usage.input_tokens
    assert after.instructions == "Be brief."


@pytest.mark.parametrize("summary", [None, "auto"])
def test_openai_responses_streamed_is_the_whole_answer(client: Any, summary: str | None) -> None:
    more: dict[str, Any] = {"reasoning": {"summary": summary}, "include": ["message.output_text.logprobs"]}
    whole = client.responses.create(**ASKED, **more)
    with client.responses.stream(**ASKED, **more) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    kind = "response.reasoning_summary_text.delta" if summary else "response.reasoning_text.delta"
    part = (whole.output[0].summary if summary else whole.output[0].content)[0]
    assert "".join(event.delta for event in events if event.type == kind) == part.text
    assert final.output_text == whole.output_text
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    mine, theirs = (response.output[1].content[0].logprobs for response in (final, whole))
    assert [each.token for each in mine] == [each.token for each in theirs] != []
    assert [each.logprob for each in mine] == pytest.approx([each.logprob for each in theirs], abs=1e-4)


def test_openai_responses_tools_and_format(client: Any) -> None:
    from pydantic import BaseModel

    class Answer(BaseModel):
        answer: int

    tool = {"type": "function", "strict": True, **ADD["function"]}  # type: ignore[dict-item]
    said = client.responses.create(**AT_ONCE, tools=[tool], tool_choice="required")
    call = said.output[-1]
    assert (call.type, call.name, set(json.loads(call.arguments))) == ("function_call", "add", {"a", "b"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "7"}
    talk = [{"role": "user", "content": QUESTION}, *said.output, result]
    assert client.responses.create(**{**AT_ONCE, "input": talk}, tools=[tool], max_output_tokens=300).output
    with client.responses.stream(**AT_ONCE, tools=[tool], tool_choice="required") as stream:
        assert stream.get_final_response().output[-1].parsed_arguments.keys() == {"a", "b"}
    assert isinstance(client.responses.parse(**AT_ONCE, text_format=Answer).output_parsed, Answer)


def test_openai_refusals_are_one_line(client: Any) -> None:
    import openai

    with pytest.raises(openai.NotFoundError, match="no model 'nobody' is served"):
        client.chat.completions.create(**{**CHAT, "model": "nobody"})
    with pytest.raises(openai.BadRequestError, match="nothing is kept here"):
        client.responses.create(**ASKED, previous_response_id="resp_1")
    with pytest.raises(openai.BadRequestError, match="suffix"):
        client.completions.create(model="tiny", prompt="a", suffix="b")


def test_openai_models_and_strategies(client: Any) -> None:
    assert {"tiny", "tiny:vote@4"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("tiny").id == "tiny"
    said = client.chat.completions.create(
        **{**CHAT, "model": "tiny:vote@3", "temperature": 1}, extra_body={"traces": True}
    )
    assert len(said.choices[0].strategy["traces"]) == 3


# ---- ollama


@pytest.fixture(scope="module")
def ollama(server: str) -> Any:
    package = pytest.importorskip("ollama")
    return package.Client(host=server, timeout=60)


GREEDY = {"temperature": 0, "num_predict": 400}


def test_ollama_chat(ollama: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], "options": GREEDY}
    whole = ollama.chat(**asked, think=True, logprobs=True, top_logprobs=1)
    assert "7" in whole.message.content
    assert whole.message.thinking
    assert whole.logprobs[0].top_logprobs
    assert min(whole.total_duration, whole.prompt_eval_count, whole.eval_count, whole.eval_duration) > 0
    lines = list(ollama.chat(**asked, stream=True))
    assert "".join(line.message.content or "" for line in lines) == whole.message.content
    assert "".join(line.message.thinking or "" for line in lines) == whole.message.thinking
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].done_reason == "stop"
    assert lines[-1].total_duration >= lines[-1].prompt_eval_duration > 0


def test_ollama_think_levels(ollama: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], "options": GREEDY}
    assert not ollama.chat(**asked, think=False).message.thinking
    assert ollama.chat(**asked, think="low").message.thinking


def test_ollama_tools_and_format(ollama: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], "options": GREEDY}
    assert set(json.loads(ollama.chat(**asked, format=SHAPE).message.content)) == {"answer"}
    talk = [
        *asked["messages"],
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 3, "b": 4}}}]},
        {"role": "tool", "content": "7", "tool_name": "add"},
    ]
    assert ollama.chat(**{**asked, "messages": talk}, tools=[ADD]).done


def test_ollama_generate(ollama: Any) -> None:
    whole = ollama.generate("tiny", QUESTION, options=GREEDY)
    assert "7" in whole.response
    assert whole.thinking
    lines = list(ollama.generate("tiny", QUESTION, options=GREEDY, stream=True))
    assert "".join(line.response or "" for line in lines) == whole.response
    raw = ollama.generate("tiny", QUESTION, raw=True, options={"temperature": 0, "num_predict": 8})
    assert raw.eval_count == 8
    assert raw.done_reason == "length"


def test_ollama_loads_and_lists(ollama: Any) -> None:
    assert ollama.generate("tiny").done_reason == "load"
    assert ollama.generate("tiny", keep_alive=0).done_reason == "unload"
    assert ollama.chat("tiny").done_reason == "load"
    names = [model.model for model in ollama.list().models]
    assert names == ["tiny:latest", "tiny:vote@4"]
    assert ollama.chat(names[0], messages=[{"role": "user", "content": QUESTION}], options=GREEDY).done
    shown = ollama.show("tiny")
    assert "thinking" in shown.capabilities
    assert ollama.ps().models[0].context_length > 0


def test_ollama_refuses_in_one_line(ollama: Any) -> None:
    from ollama import ResponseError

    with pytest.raises(ResponseError, match="no model 'nobody'") as refused:
        ollama.generate("nobody", "hi")
    assert refused.value.status_code == 404
    with pytest.raises(ResponseError, match="templates are the model's own"):
        ollama.generate("tiny", "hi", template="{{ .Prompt }}")
    with pytest.raises(ResponseError, match="mirostat"):
        list(ollama.generate("tiny", "hi", stream=True, options={"mirostat": 1}))


# ---- what stands on these


@needs("langchain_openai")
def test_langchain(server: str) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="tiny", base_url=f"{server}/v1", api_key="none", temperature=0, max_retries=0)
    whole = model.invoke(QUESTION)
    assert "7" in whole.content
    assert whole.usage_metadata["output_token_details"]["reasoning"] > 0
    assert "".join(str(chunk.content) for chunk in model.stream(QUESTION)) == whole.content
    called = model.bind_tools([ADD], tool_choice="add", reasoning_effort="none").invoke(QUESTION).tool_calls
    assert called[0]["name"] == "add"
    assert set(called[0]["args"]) == {"a", "b"}
    shaped = model.with_structured_output({"title": "Answer", **SHAPE}, method="json_schema").invoke(QUESTION)
    assert isinstance(shaped["answer"], int)


@needs("langchain_openai")
def test_langchain_over_responses(server: str) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        model="tiny",
        base_url=f"{server}/v1",
        api_key="none",
        temperature=0,
        max_retries=0,
        use_responses_api=True,
        reasoning={"summary": "auto"},
    )
    whole = model.invoke(QUESTION)
    assert "7" in whole.text
    chunks = list(model.stream(QUESTION))
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert joined.text == whole.text


@needs("smolagents")
def test_smolagents(server: str) -> None:
    from smolagents import OpenAIServerModel, tool

    @tool
    def add(a: int, b: int) -> int:
        """Adds two numbers.

        Args:
            a: The first.
            b: The second.
        """
        return a + b

    model = OpenAIServerModel("tiny", api_base=f"{server}/v1", api_key="none", temperature=0, max_tokens=400)
    talk = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    assert "7" in str(model.generate(talk).content)
    called = model.generate(talk, tools_to_call_from=[add], reasoning_effort="none").tool_calls
    assert called
    assert called[0].function.name == "add"
    assert "".join(delta.content or "" for delta in model.generate_stream(talk)) == model.generate(talk).content


TASK = """
task: own_sums
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{target}}}}"
{more}
metric_list:
  - metric: {metric}
    aggregation: mean
    higher_is_better: true
"""


def _lm_eval(folder: Path, kind: str, metric: str, more: str, questions: list[dict[str, Any]], **options: Any) -> Any:
    import lm_eval
    from lm_eval.tasks import TaskManager

    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(each) + "\n" for each in questions))
    (folder / "own_sums.yaml").write_text(TASK.format(data=data, kind=kind, metric=metric, more=more))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = lm_eval.simple_evaluate(tasks=["own_sums"], task_manager=manager, bootstrap_iters=0, **options)
    return found["results"]["own_sums"][f"{metric},none"]


def _asked(a: int, b: int) -> str:
    """The question as the template of `tiny` has it, thinking opened."""
    from transformers import AutoTokenizer

    from thinksmith.models import path

    talk = [{"role": "user", "content": f"What is {a} + {b}?"}]
    tokenizer = AutoTokenizer.from_pretrained(str(path("tiny")))
    return str(tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True))


def _tokenizer(folder: Path) -> str:
    """The tokenizer of `tiny` under the class that reads tokenizer.json as it stands: by the name of its architecture,
    transformers 5 cuts texts by other rules."""
    from thinksmith.models import path

    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((path("tiny") / "tokenizer.json").read_bytes())
    config = json.loads((path("tiny") / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    return str(folder)


@needs("lm_eval")
def test_lm_eval_local_completions(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiple choice by log-likelihood: the right sum is likelier than two wrong ones."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    sums = [(3, 4), (2, 5), (6, 2), (8, 1)]
    questions = [
        {
            "question": f"{_asked(a, b)}{a} + {b}: {a} + {b}",
            "choices": [f" = {c}" for c in (a + b, a + b + 1, a + b - 2)],
        }
        for a, b in sums
    ]
    questions = [each | {"target": 0} for each in questions]
    args = {
        "model": "tiny",
        "base_url": f"{server}/v1/completions",
        "tokenizer": _tokenizer(tmp_path / "tokenizer"),
        "tokenizer_backend": "huggingface",
        "num_concurrent": 2,
        "max_retries": 1,
    }
    accuracy = _lm_eval(
        tmp_path,
        "multiple_choice",
        "acc",
        'doc_to_choice: "{{choices}}"\ntarget_delimiter: ""',
        questions,
        model="local-completions",
        model_args=args,
    )
    assert accuracy == 1.0


@needs("lm_eval")
def test_lm_eval_local_chat_completions(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    questions = [{"question": f"What is {a} + {b}?", "target": f"The answer is {a + b}."} for a, b in [(3, 4), (2, 5)]]
    more = "generation_kwargs: {until: [], max_gen_toks: 400, temperature: 0}"
    args = {"model": "tiny", "base_url": f"{server}/v1/chat/completions", "num_concurrent": 1, "max_retries": 1}
    accuracy = _lm_eval(
        tmp_path,
        "generate_until",
        "exact_match",
        more,
        questions,
        model="local-chat-completions",
        model_args=args,
        apply_chat_template=True,
    )
    assert accuracy == 1.0
