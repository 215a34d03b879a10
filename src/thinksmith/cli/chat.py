"""`thinksmith chat`: a conversation in the terminal, with one model or several side by side."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from thinksmith.chat.session import Session
    from thinksmith.records import Trace
    from thinksmith.store.store import Store

_THINKING_LINES = 6  # of a thinking that is under way


def chat(
    model: Annotated[str, typer.Option(metavar="NAME", help="[default: as thinksmith models says]")] = "",
    vs: Annotated[list[str], typer.Option(metavar="NAME", help="Another model beside it; may be given again.")] = [],  # noqa: B006
    system: Annotated[str, typer.Option(metavar="TEXT", help="What the model is told before all.")] = "",
    think: Annotated[int | None, typer.Option(min=0, metavar="N", help="Most tokens of the thinking.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, metavar="T", help="[default: the model's own]")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of a turn.")] = 4096,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the sampling.")] = 0,
) -> None:
    """Talk with a model: its thinking folds up, /help lists what can be typed. Every turn is kept in the store."""
    from thinksmith.chat.session import Session
    from thinksmith.cli.screen import console
    from thinksmith.engines import open_engine
    from thinksmith.engines.remote.settings import default_model
    from thinksmith.models import EMBEDDED
    from thinksmith.store.store import Store

    given = {"max_thinking_tokens": think, "temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    settings = {name: value for name, value in given.items() if value is not None}
    names = [model or default_model(os.environ), *vs]
    with Store.open() as store, asyncio.Runner() as runner:
        sessions = [Session(open_engine(name), system, dict(settings)) for name in names]
        talk = Talk(sessions, store, console(), runner)
        if any(name.split(":")[0] in EMBEDDED for name in names):
            print(
                "thinksmith: the embedded models know single questions of arithmetic; /clear between them",
                file=sys.stderr,
            )
        try:
            talk.run()
        finally:
            talk.close()


class Talk:
    """The conversation at the terminal:

    what is typed goes to every session. `sessions` has one, or several with --vs.
    """

    def __init__(self, sessions: list[Session], store: Store, screen: Console, runner: asyncio.Runner) -> None:
        self._sessions, self._store, self._screen, self._runner = sessions, store, screen, runner
        self._prompts = sys.stdin.isatty()
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")  # a paste may hold bytes that are no text

    def run(self) -> None:
        """Until the end of the input, or /quit."""
        from thinksmith.chat.words import command_of, read_turns
        from thinksmith.errors import UserError

        if self._prompts:
            self._line_editing()
            names = ", ".join(session.engine.info.name for session in self._sessions)
            self._screen.print(f"{names}: /help lists what can be typed, Ctrl-D leaves", style="dim")
        for typed in read_turns(self._line):
            try:
                if typed.command:
                    name = command_of(typed.command)
                    if name == "quit":
                        return
                    getattr(self, f"_{name}")(typed.text)
                else:
                    for session in self._sessions:
                        session.ask(typed.text)
                    self._answer()
            except UserError as error:
                self._note(str(error))
            except KeyboardInterrupt:  # while a model is loaded, say
                self._note("stopped; Ctrl-D or /quit leaves")

    def close(self) -> None:
        for session in self._sessions:
            session.close(self._store)
            self._runner.run(session.engine.aclose())

    # ---- what is typed ----

    def _line(self, prompt: str) -> str:
        """One line. Ctrl-C at the prompt drops what was typed."""
        while True:
            try:
                return input(prompt if self._prompts else "")
            except KeyboardInterrupt:
                self._screen.print("\n(Ctrl-D or /quit leaves)", style="dim")

    def _line_editing(self) -> None:
        """Keys as in a shell, and what was typed in earlier chats."""
        import atexit
        import contextlib

        try:
            import readline
        except ImportError:
            return
        from platformdirs import user_state_path

        path = user_state_path("thinksmith") / "chat_history"
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.read_history_file(path)
        readline.set_history_length(1000)

        def write() -> None:
            with contextlib.suppress(OSError):
                readline.write_history_file(path)
                path.chmod(0o600)

        atexit.register(write)

    # ---- answers ----

    def _answer(self) -> None:
        """Every session's next turn. Ctrl-C stops it, and the conversation goes on."""
        try:
            if len(self._sessions) == 1:
                self._runner.run(self._stream(self._sessions[0]))
            else:
                self._runner.run(self._side_by_side())
        except KeyboardInterrupt:
            self._note("stopped: this answer does not count; /retry asks again")

    async def _stream(self, session: Session) -> None:
        from thinksmith.chat.words import folded, footing
        from thinksmith.cli.screen import clean

        thinking, began, folding, told = "", asyncio.get_running_loop().time(), _Folding(self._screen), False
        trace: Trace | None = None
        try:
            async for delta in session.answer():
                if delta.part == "reset":
                    folding.stop()
                    thinking, told = "", False
                    self._note("the connection broke: the model begins again")
                elif delta.part == "thinking":
                    thinking += delta.text
                    folding.show(thinking)
                elif delta.part == "answer":
                    if not told and thinking:
                        folding.stop()
                        self._fold(f"▸ thought for {asyncio.get_running_loop().time() - began:.1f} s")
                    told = True
                    self._screen.print(clean(delta.text), end="")
                trace = delta.trace or trace
        finally:
            folding.stop()
        assert trace is not None, "the last delta has the trace"
        self._screen.print("" if told else folded(trace, trace.seconds) if thinking else "")
        if trace.finish == "error":
            self._note(f"the model failed: {trace.error}; /retry asks again")
            return
        thought = f"thinking {trace.thinking_tokens:,} and " if trace.thinking_tokens else ""
        self._screen.print(f"({thought}answer {trace.answer_tokens:,}: {footing(trace)})", style="dim")
        self._notes(trace)
        session.keep(self._store, trace)

    async def _side_by_side(self) -> None:
        from thinksmith.chat.lanes import Lane
        from thinksmith.chat.words import folded, footing
        from thinksmith.cli.lanes_view import watch
        from thinksmith.cli.screen import clean
        from thinksmith.engines import is_remote

        lanes = [
            Lane(session.engine.info.name, not is_remote(session.engine.info.name), session.answer)
            for session in self._sessions
        ]
        await watch(lanes, self._screen)
        for lane, session in zip(lanes, self._sessions, strict=True):
            self._screen.print(f"── {lane.name} ──", style="bold")
            if lane.trace is None or lane.error:
                self._note(f"{lane.name} failed: {lane.error}; /retry asks again")
                continue
            if lane.trace.thinking:
                self._fold(folded(lane.trace, lane.trace.seconds))
            self._screen.print(clean(lane.trace.answer))
            self._screen.print(f"({footing(lane.trace)})", style="dim")
            session.keep(self._store, lane.trace)

    def _fold(self, line: str) -> None:
        self._screen.print(line, style="dim")

    def _note(self, text: str) -> None:
        self._screen.file.flush()
        print(f"thinksmith: {' '.join(text.split())}", file=sys.stderr, flush=True)

    def _notes(self, trace: Trace) -> None:
        if trace.thinking_status == "truncated":
            self._note(f"the thinking was cut off at {trace.tokens:,} tokens: nothing was answered")
        elif trace.finish == "length":
            self._note(f"the answer was cut off at {trace.tokens:,} tokens")
        for note in trace.usage.notes if trace.usage else ():
            self._note(note)

    # ---- commands ----

    def _help(self, _: str) -> None:
        from thinksmith.chat.words import COMMANDS, FENCE

        for usage, what in COMMANDS.items():
            self._screen.print(f"/{usage:<16} {what}")
        self._screen.print(f"a line that ends in \\ goes on; between two lines of {FENCE} all lines are one text")

    def _model(self, name: str) -> None:
        from thinksmith.engines import open_engine
        from thinksmith.errors import UserError

        if not name or len(self._sessions) > 1:
            raise UserError("write /model NAME" if not name else "several models are compared: leave, and name others")
        engine = open_engine(name)
        (session,) = self._sessions
        session.close(self._store)
        self._runner.run(session.engine.aclose())
        session.turn_to(engine)
        self._fold(f"now {engine.info.name}")

    def _think(self, text: str) -> None:
        from thinksmith.chat.words import think_setting

        self._set("max_thinking_tokens", think_setting(text))

    def _temperature(self, text: str) -> None:
        from thinksmith.errors import UserError

        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 100:
            raise UserError("write /temperature 0.6")
        self._set("temperature", value)

    def _set(self, name: str, value: Any) -> None:
        for session in self._sessions:
            session.settings[name] = value

    def _retry(self, _: str) -> None:
        for session in self._sessions:
            session.again()
        self._answer()

    def _undo(self, _: str) -> None:
        for session in self._sessions:
            session.undo()

    def _thinking(self, _: str) -> None:
        from thinksmith.cli.screen import clean

        for trace in self._last():
            self._screen.print(clean(trace.thinking) or "(no thinking)", style="dim")

    def _audit(self, _: str) -> None:
        from thinksmith.audit import audit
        from thinksmith.cli.audit import show

        for trace in self._last():
            show(self._screen, trace, audit(trace))

    def _last(self) -> Sequence[Trace]:
        from thinksmith.errors import UserError

        found = [session.trace for session in self._sessions if session.trace]
        if not found:
            raise UserError("nothing was answered yet")
        return found

    def _history(self, _: str) -> None:
        from thinksmith.cli.screen import clean

        for session in self._sessions:
            if len(self._sessions) > 1:
                self._screen.print(f"── {session.engine.info.name} ──", style="bold")
            for message in session.messages:
                self._screen.print(f"{message['role']}: {clean(message['content'])}")

    def _save(self, name: str) -> None:
        from thinksmith.chat.words import as_json, as_markdown
        from thinksmith.errors import UserError

        writers: dict[str, Callable[..., str]] = {".md": as_markdown, ".json": as_json}
        path = Path(name).expanduser()
        if path.suffix not in writers:
            raise UserError("write /save FILE.md or /save FILE.json")
        said = [(session.engine.info.name, session.messages) for session in self._sessions]
        try:
            path.write_text(writers[path.suffix](said), encoding="utf-8", errors="replace")
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        self._fold(f"written to {path}")

    def _clear(self, _: str) -> None:
        for session in self._sessions:
            session.messages.clear()
            session.trace = None


class _Folding:
    """On a terminal the last lines of the thinking while it comes; they go when it ends."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._live: Any = None

    def show(self, thinking: str) -> None:
        from rich.live import Live
        from rich.text import Text

        from thinksmith.cli.screen import clean

        if not self._screen.is_terminal:
            return
        if self._live is None:
            self._live = Live(console=self._screen, transient=True, refresh_per_second=8)
            self._live.start()
        width = max(20, self._screen.width - 1)
        lines = clean(thinking).splitlines()
        lines = [line[at : at + width] for line in lines for at in range(0, len(line) or 1, width)]
        self._live.update(Text("\n".join(lines[-_THINKING_LINES:]), style="dim"))

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
