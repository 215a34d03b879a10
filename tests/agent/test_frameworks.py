"""The examples of agent frameworks, each as a program of its own against a real server on loopback, and what becomes
of the reasoning in each: the table of docs/agent-frameworks.md is compared with what was seen.

The model is scripted: it thinks, calls a tool, reads the result from what the framework sends, and answers with it.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra serve installs it")
pytest.importorskip("uvicorn", reason="the extra serve installs it")

from agent_scripts import Scripted, calls  # type: ignore[import-not-found]

from thinksmith.engines.contract import Engine
from thinksmith.records import Message, Request

sys.path.append(str(Path(__file__).resolve().parents[1] / "serve"))
from serve_parts import serving  # type: ignore[import-not-found]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "frameworks"
PAGE = ROOT / "docs" / "agent-frameworks.md"
GUARD = Path(__file__).parent / "loopback_only"
THOUGHTS = ("Look up the price.", "Twelve times that.", "That is the sum.")
ANSWER = "They cost 207.0 euros."  # 12 x 17.25; the price stands in the examples alone

# What a user's own environment may say: with all of it, an example sends nothing.
TALKATIVE = {
    "LANGSMITH_TRACING": "true",
    "LANGCHAIN_TRACING_V2": "true",
    "LANGSMITH_API_KEY": "none",
    "OPENAI_API_KEY": "none",
    "CREWAI_TRACING_ENABLED": "true",
}


@dataclass(frozen=True)
class Example:
    """A framework over one of the APIs, and its row in the page."""

    name: str  # as the page writes it
    script: str
    api: str = "chat"
    environment: str = ".venv"
    needs: str = ""  # the package, where it is one of .venv
    chooses: bool = False  # has the option --api
    choice: str = "auto"

    @property
    def python(self) -> str:
        return sys.executable if self.environment == ".venv" else str(ROOT / self.environment / "bin" / "python")

    def skip_unless_installed(self) -> None:
        if self.needs and importlib.util.find_spec(self.needs) is None:
            pytest.skip(f"{self.needs} is not installed")
        if not self.needs and not (ROOT / self.environment / ".installed").exists():
            pytest.skip(f"{self.name} needs an environment of its own: make frameworks")


_OWN, _CREWAI = ".venv-openai-autogen", ".venv-crewai"
SMOLAGENTS = Example("smolagents", "smolagents_agent.py", needs="smolagents", choice="required")
LANGGRAPH = Example("LangGraph", "langgraph_agent.py", "responses", needs="langgraph", chooses=True)
LANGGRAPH_CHAT = Example("LangGraph", "langgraph_agent.py", needs="langgraph", chooses=True)
OPENAI = Example("OpenAI Agents SDK", "openai_agents.py", "responses", _OWN, chooses=True)
OPENAI_CHAT = Example("OpenAI Agents SDK", "openai_agents.py", "chat", _OWN, chooses=True)
AUTOGEN = Example("AutoGen", "autogen_agent.py", environment=_OWN)
CREWAI = Example("CrewAI", "crewai_agent.py", environment=_CREWAI)
ALL = (SMOLAGENTS, LANGGRAPH, LANGGRAPH_CHAT, OPENAI, OPENAI_CHAT, AUTOGEN, CREWAI)


def label(example: Example) -> str:
    return f"{example.script.removesuffix('.py')}-{example.api}"


def observation(message: Message) -> str | None:
    """A tool's result, wherever a framework puts it; None if the message is none."""
    if message["role"] == "tool":
        return message["content"]
    found = re.fullmatch(r"Observation:\n(.*)", message["content"], re.DOTALL)
    return found.group(1).strip() if found and message["role"] == "user" else None


def clerk(request: Request) -> str:
    """What the scripted model says: it asks for the price, then for the product with the price that it was told, then
    tells what it was told."""
    seen = [told for message in request.messages if (told := observation(message)) is not None]
    if not seen:
        return calls("price_of", THOUGHTS[0], item="flange")
    if len(seen) == 1:
        return calls("multiply", THOUGHTS[1], a=12, b=float(seen[0]))
    answer = f"They cost {seen[1]} euros."
    if "final_answer" in {tool["function"]["name"] for tool in request.tools}:
        return calls("final_answer", THOUGHTS[2], answer=answer)
    return f"<think>\n{THOUGHTS[2]}\n</think>\n\n{answer}"


@contextmanager
def served(name: str, engine: Engine, *strategies: str) -> Iterator[str]:
    """The address of a model, and of strategies over it, as `thinksmith serve` offers them."""
    from thinksmith.serve.app import create_app
    from thinksmith.serve.models import Base, Shelf
    from thinksmith.strategies.names import strategy

    base = Base.of(name, engine, places=8, queue=8)
    more = {f"{name}:{each}": (base, strategy(each)) for each in strategies}
    with serving(create_app(Shelf([base], more))) as found:
        yield f"{found.url}/v1"


@dataclass(frozen=True)
class Ran:
    """What an example printed, and where it wanted to connect beyond loopback."""

    reasoning: tuple[str, ...]
    answer: str
    refused: str


def run(example: Example, home: Path, url: str, model: str, *more: str, script: Path | None = None) -> Ran:
    told = home / "refused"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(GUARD), "LOOPBACK_ONLY": str(told)}
    choice = ("--api", example.api) if example.chooses else ()
    done = subprocess.run(
        [example.python, str(script or EXAMPLES / example.script), "--url", url, "--model", model, *choice, *more],
        cwd=home,
        env=environment | TALKATIVE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    parts = re.findall(r"^(reasoning|answer): (.*?)(?=^reasoning: |^answer: |\Z)", done.stdout, re.M | re.S)
    return Ran(
        tuple(text.strip() for part, text in parts if part == "reasoning"),
        "\n".join(text.strip() for part, text in parts if part == "answer"),
        told.read_text() if told.exists() else "",
    )


def turns(thoughts: tuple[str, ...]) -> str:
    """As the page says it."""
    words = {THOUGHTS: "every turn's", THOUGHTS[:2]: "every turn's", THOUGHTS[2:]: "the last turn's", (): "dropped"}
    return words[thoughts]


def row(example: Example) -> dict[str, str]:
    """What the page says of an example, by column."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    (found,) = [dict(zip(head, each, strict=True)) for each in rows if each[:2] == [example.name, example.api]]
    return found


@pytest.mark.parametrize("example", ALL, ids=label)
def test_an_agent_works_and_its_reasoning_goes_where_the_page_says(example: Example, tmp_path: Path) -> None:
    example.skip_unless_installed()
    model = Scripted(clerk)
    with served("scripted", model) as url:
        ran = run(example, tmp_path, url, "scripted")
    assert ran.answer == ANSWER
    assert not ran.refused

    # What the model was told: the tools with their types, then each result once, in its place behind its call.
    first, second, third = model.asked
    functions = {tool["function"]["name"]: tool["function"]["parameters"] for tool in first.tools}
    assert functions["price_of"]["properties"]["item"]["type"] == "string"
    assert {functions["multiply"]["properties"][each]["type"] for each in "ab"} == {"number"}
    assert all(request.tool_choice == example.choice for request in model.asked)
    assert observation(second.messages[-1]) == "17.25"
    assert observation(third.messages[-1]) == "207.0"
    roles = {third.messages[-1]["role"], third.messages[-3]["role"]}
    for at, name, arguments in ((-4, "price_of", {"item": "flange"}), (-2, "multiply", {"a": 12, "b": 17.25})):
        asked, result = third.messages[at], third.messages[at + 1]
        assert asked["role"] == "assistant"
        if roles == {"tool"}:
            (call,) = asked["tool_calls"]
            assert (call["name"], call["arguments"]) == (name, arguments)
            assert (result["tool_call_id"], result["name"]) == (call["id"], name)
        else:
            assert f"'name': '{name}', 'arguments': {arguments}" in asked["content"]

    given_back = tuple(message["thinking"] for message in third.messages if message.get("thinking"))
    assert row(example) == {
        "framework": example.name,
        "API": example.api,
        "environment": f"`{example.environment}`",
        "reasoning kept": turns(ran.reasoning),
        "given back to the model": turns(given_back).replace("dropped", "no"),
        "results come in": " ".join(f"`{role}`" for role in roles),
    }


@pytest.mark.parametrize("example", [LANGGRAPH, OPENAI], ids=label)
def test_an_agent_over_a_strategy_of_the_embedded_model(example: Example, tmp_path: Path) -> None:
    example.skip_unless_installed()
    from thinksmith.engines import open_engine

    with served("tiny", open_engine("tiny"), "vote@8") as url:
        ran = run(example, tmp_path, url, "tiny:vote@8", "--no-tools", "--question", "What is 3 + 4?")
    assert "7" in ran.answer
    assert "3 + 4" in "".join(ran.reasoning)
    assert not ran.refused


@pytest.mark.parametrize(
    ("example", "switches", "host"),
    [
        (LANGGRAPH, r"^os\.environ.*\n", "api.smith.langchain.com"),
        (OPENAI, r"^set_tracing_disabled.*\n", "api.openai.com"),
        (CREWAI, r"^os\.environ.*\n|, tracing=False", "telemetry.crewai.com"),
    ],
    ids=["langgraph", "openai_agents", "crewai"],
)
def test_without_its_switches_a_framework_is_caught_sending(
    example: Example, switches: str, host: str, tmp_path: Path
) -> None:
    """The guard sees what these libraries would send: that it saw nothing above is no accident."""
    example.skip_unless_installed()
    text, count = re.subn(switches, "", (EXAMPLES / example.script).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count
    script = tmp_path / example.script
    script.write_text(text, encoding="utf-8")
    with served("scripted", Scripted(clerk)) as url:
        ran = run(example, tmp_path, url, "scripted", script=script)
    assert host in ran.refused
    assert f"`{host}`" in PAGE.read_text(encoding="utf-8")


def test_the_environments_are_those_of_the_makefile() -> None:
    """`make frameworks` makes them, from files in which every package has its version."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (made,) = re.findall(r"^frameworks:([^#]*)", makefile, re.MULTILINE)
    assert {f"{example.environment}/.installed" for example in ALL if not example.needs} == set(made.split())
    for environment in (_OWN, _CREWAI):
        wanted = EXAMPLES / f"requirements-{environment.removeprefix('.venv-')}.txt"
        assert all("==" in line for line in wanted.read_text(encoding="utf-8").splitlines())


def test_the_switches_that_the_page_names_are_set_by_the_examples() -> None:
    named = re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", PAGE.read_text(encoding="utf-8"))
    texts = "".join((EXAMPLES / example.script).read_text(encoding="utf-8") for example in ALL)
    assert named
    assert all(f'os.environ["{name}"] = ' in texts for name in named)


def test_the_default_port_is_the_servers() -> None:
    from thinksmith.serve.server import PORT

    for example in ALL:
        assert f'"http://127.0.0.1:{PORT}/v1"' in (EXAMPLES / example.script).read_text(encoding="utf-8")
