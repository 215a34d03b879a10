"""The documents cannot lie: commands are run and their output compared, names and options exist, Python blocks import.

A fenced `console` block is a session: `$ command` lines and, below each, what it prints. `…` stands for any text
(alone on a line: for any lines); all else, numbers too, must be equal. A command with nothing below it must only
succeed. A command may fail only where `$ echo $?` follows and shows the code. A document's blocks run in order
in one folder with an empty home and store.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "thinksmith"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PROGRAM = Path(sys.executable).parent / "thinksmith"
# Not run here, with the reason; that the command or target exists is checked all the same.
NOT_RUN = {
    "make quickstart": "installs into .venv and trains for minutes",
    "make test": "runs this test",
    "thinksmith quickstart": "trains for minutes; tests of the command line run a short one",
}
by_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the document on which the text begins."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Step:
    """A command of a session and what the document says that it prints (None: nothing is said)."""

    command: str
    expected: str | None
    line: int


def blocks(text: str) -> list[Block]:
    found, lines = [], text.split("\n")
    start: int | None = None
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
        else:
            found.append(Block(lines[start - 1][3:].strip(), "\n".join(lines[start : number - 1]), start + 1))
            start = None
    assert start is None, f"the block that begins on line {start} never ends"
    return found


def session(block: Block) -> list[Step]:
    steps: list[Step] = []
    for piece in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE):
        if not piece:
            continue
        assert piece.startswith("$ "), f"line {block.line}: a console block begins with `$ command`"
        command, _, output = piece[2:].partition("\n")
        line = block.line + block.text[: block.text.index(piece)].count("\n")
        steps.append(Step(command, output.rstrip("\n") if output.strip() else None, line))
    return steps


def agrees(expected: str, printed: str) -> bool:
    """Does `printed` read as the document says? Space at the ends of lines does not count."""
    pattern = re.escape("\n".join(line.rstrip() for line in expected.strip("\n").split("\n")))
    pattern = re.sub(r"^…(?=\\?$)", lambda _: r"[\s\S]*?", pattern, flags=re.MULTILINE).replace("…", r"[^\n]*")
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed.strip("\n").split("\n"))) is not None


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a 12 b", "a 12 b\n", True),
        ("a 12 b", "a 13 b", False),
        ("a 12 b", "a 12 b\nmore", False),
        ("a … b", "a anything at all b", True),
        ("a … b", "a\nb", False),
        ("first\n…\nlast", "first\n1\n2\n3\nlast", True),
        ("first\n…\nlast", "first\n1\nlast one", False),
        ("1.5 (x*)", "145 (xx)", False),
        ("…\nlast", "one\nlast", True),
    ],
)
def test_the_comparison_tells_difference(expected: str, printed: str, same: bool) -> None:
    assert agrees(expected, printed) is same


def test_a_session_is_read_as_commands_with_their_output() -> None:
    (block,) = blocks("# x\n\n```console\n$ one\nout 1\n\nout 2\n$ two\n$ echo $?\n2\n```\n")
    assert session(block) == [Step("one", "out 1\n\nout 2", 4), Step("two", None, 8), Step("echo $?", "2", 9)]


@by_document
def test_sessions_print_what_the_document_says(document: Path, tmp_path: Path) -> None:
    status = 0
    steps = [s for b in blocks(document.read_text(encoding="utf-8")) if b.language == "console" for s in session(b)]
    for step, following in zip_longest(steps, steps[1:]):
        if step.command in NOT_RUN:
            continue
        done = _bash(f"(exit {status}); {step.command}", tmp_path)
        where = f"{document.name}:{step.line}: $ {step.command}\n{done.stdout}"
        status = done.returncode
        assert status == 0 or (following and following.command == "echo $?"), f"exit code {status}\n{where}"
        assert step.expected is None or agrees(step.expected, done.stdout), f"printed otherwise\n{where}"


def _bash(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("THINKSMITH_", "XDG_"))}
    environment |= {
        "PATH": f"{PROGRAM.parent}{os.pathsep}{environment['PATH']}",
        "HOME": str(folder),
        "THINKSMITH_STORE": str(folder / "store.db"),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


@functools.cache
def _help(command: str) -> str | None:
    """What `thinksmith COMMAND --help` prints, or None where there is no such command."""
    done = subprocess.run(
        [str(PROGRAM), *command.split(), "--help"],
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    return done.stdout if done.returncode == 0 else None


def _commands() -> list[str]:
    """The commands that the program itself lists."""
    listed = (_help("") or "").partition("Commands:")[2]
    return re.findall(r"^  (\w[\w-]*)  ", listed, flags=re.MULTILINE)


def _mentions(document: Path) -> Iterator[tuple[str, str]]:
    """(command, rest of the line) wherever a block or an inline code names the program with a command."""
    text = document.read_text(encoding="utf-8")
    fenced = [line for block in blocks(text) if block.language != "python" for line in block.text.split("\n")]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for code in [*fenced, *inline]:
        if match := re.match(r"(?:\$ )?(?:.*\| )?thinksmith +([a-z][\w-]*)(.*)", code):
            yield match[1], match[2].split("#")[0]


@by_document
def test_commands_and_options_exist(document: Path) -> None:
    for command, rest in _mentions(document):
        shown = _help(command)
        assert shown is not None, f"{document.name} names `thinksmith {command}`, which is no command"
        unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", rest)
        for option in re.findall(r"(?<=\s)--?[a-z][\w-]*", unquoted):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", shown), (
                f"{document.name}: `thinksmith {command}` has no {option}"
            )


@by_document
def test_options_named_alone_exist_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    known = "\n".join(_help(command) or "" for command in _commands()) + (_help("") or "")
    known += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bench").glob("*.py"))
    for option in re.findall(r"`(--[a-z][\w-]*)[^`\n]*`", text):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", known), f"{document.name}: nothing has {option}"


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(_commands()) >= 9
    for command in _commands():
        assert re.search(rf"thinksmith {command}\b", readme), f"README.md does not show `thinksmith {command}`"


@by_document
def test_make_targets_exist(document: Path) -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for target in re.findall(r"(?:`|^\s*\$ |^    )make ([a-z-]+)", document.read_text(encoding="utf-8"), flags=re.M):
        assert target in targets, f"{document.name}: make has no target {target}"


@by_document
def test_python_blocks_import_what_exists_and_pass_arguments_that_exist(document: Path) -> None:
    for block in blocks(document.read_text(encoding="utf-8")):
        if block.language != "python":
            continue
        tree = ast.parse(block.text, filename=document.name)
        names: dict[str, object] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thinksmith"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{document.name}: {node.module} has no {alias.name}"
                    names[alias.asname or alias.name] = getattr(module, alias.name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (called := _called(node.func, names)) is not None:
                if isinstance(called, type) and issubclass(called, BaseException):
                    continue  # an exception of ours takes its message, and has no signature
                signature = inspect.signature(called)  # type: ignore[arg-type]
                keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                if not any(isinstance(argument, ast.Starred) for argument in node.args):
                    signature.bind_partial(*node.args, **keywords)


def _called(function: ast.expr, names: dict[str, object]) -> object | None:
    """The object that `name(…)` or `Name.method(…)` calls, if it was imported."""
    if isinstance(function, ast.Name):
        return names.get(function.id)
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in names:
        return getattr(names[function.value.id], function.attr)
    return None


def tree_paths() -> list[str]:
    """The paths of the README's tree, relative to the root; folders end in a slash."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = (block.text for block in blocks(readme) if block.text.startswith("src/thinksmith/\n"))
    paths: list[str] = []
    parents: list[str] = []
    for line in tree.split("\n"):
        depth = (len(line) - len(line.lstrip())) // 4
        name = line.split()[0]
        parents = [*parents[:depth], name]
        paths.append("".join(parents))
    return paths


def rooms() -> list[str]:
    """The rooms in the order of the README's tree, the top floor first."""
    return [path.split("/")[2] for path in tree_paths() if re.fullmatch(r"src/thinksmith/[^/]+/?", path)]


def test_the_tree_names_what_exists() -> None:
    paths = tree_paths()
    assert len(paths) > 30
    for path in paths:
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), f"README.md's tree: no {path}"


def test_the_tree_names_every_room() -> None:
    present = {p.name for p in SOURCE.iterdir() if (p.is_dir() and any(p.glob("*.py"))) or p.suffix == ".py"}
    assert present - {"__init__.py", "__main__.py"} == set(rooms())


def test_imports_only_point_down_the_tree() -> None:
    """The scripts that make the embedded models use the whole house, and nothing uses them."""
    floor = {room.removesuffix(".py"): number for number, room in enumerate(rooms())}
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE).as_posix()
        room = inside.split("/")[0].removesuffix(".py")
        if room in ("__init__", "__main__") or inside.startswith("recipes/tiny/"):
            continue
        above = {name for name, number in floor.items() if number < floor[room]}
        wrong += [f"{inside} imports {name}, which lies above {room}" for name in above & _rooms_imported(path)]
    assert not wrong, "\n".join(wrong)


def _rooms_imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "thinksmith":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thinksmith."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("thinksmith.")}
    return found


BENCHES = [path for path in sorted((ROOT / "bench").glob("[!_]*.py")) if path.name != "write_docs.py"]


@pytest.mark.parametrize("script", BENCHES, ids=lambda path: path.name)
def test_a_bench_has_a_short_form_and_goals(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert "--quick" in (ast.get_docstring(tree) or ""), f"{script.name}: the docstring shows no --quick"
    assert re.search(r"add_argument\(\s*\"--quick\"", text), f"{script.name} takes no --quick"
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    names = {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}
    assert "GOALS" in names or "Goal" in (ast.get_docstring(tree) or ""), f"{script.name} names no goals"
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert any(isinstance(f, ast.Name) and f.id == "finish" for f in calls), f"{script.name} keeps no result"


def test_the_page_of_benchmarks_is_what_the_results_give() -> None:
    write_docs = _write_docs()
    assert write_docs.PAGE.read_text(encoding="utf-8") == write_docs.page(ROOT / "bench" / "results"), "run `make docs`"


def test_the_page_of_benchmarks_follows_the_results(tmp_path: Path) -> None:
    """A changed figure changes the page, a missed goal is said, a quick run shows no figure."""
    result = (
        '{"name": "splitter", "figures": {"speed": {"fast": 1234567}, "runs": [{"seed": 0, "gain": 31.5}]},'
        ' "goals": {"speed": 5.0}, "holds": HOLDS, "quick": QUICK, "date": "2026-01-02T03:04:05+00:00",'
        ' "machine": {"cpu": "c", "cores": 2, "memory_gb": 8.0, "gpu": null}, "versions": {"python": "3.12"}}'
    )
    page = _write_docs().page

    def written(holds: str, quick: str) -> str:
        (tmp_path / "splitter.json").write_text(result.replace("HOLDS", holds).replace("QUICK", quick))
        return str(page(tmp_path))

    full = written("true", "false")
    assert "| speed.fast | 1,234,567 |" in full
    assert "| 0 | 31.5 |" in full
    assert "(met)" in full
    assert "**not met**" in written("false", "false")
    assert "1,234,567" not in written("true", "true")


def _write_docs():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "bench" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
