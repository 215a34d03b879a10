"""Every attack against all layers, against those of a host without namespaces, and against each layer alone.

A layer must stop exactly the attacks that the table gives it. Where it is not listed and the attack fails all the same,
either the table is wrong or this machine stops it for a reason that the attack knows: then the test is skipped.
"""

from __future__ import annotations

import json
import os
import pty
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attack import ALWAYS, LAYERS, PRELUDE, Attack, Stage
from attacks_on_files import ATTACKS as FILES
from attacks_on_judgement import ATTACKS as JUDGEMENT
from attacks_on_network import ATTACKS as NETWORK
from attacks_on_processes import ATTACKS as PROCESSES
from attacks_on_resources import ATTACKS as RESOURCES

from thinksmith.sandbox import Result, host, open_sandbox

SUBJECTS = {"files": FILES, "network": NETWORK, "processes": PROCESSES, "resources": RESOURCES, "judgement": JUDGEMENT}
ATTACKS = [attack for attacks in SUBJECTS.values() for attack in attacks]
SETS = {"all": LAYERS, "without namespaces": LAYERS[1:]} | {name: (name,) for name in LAYERS}
DAEMON_SECONDS = 1.0
PAGE = Path(__file__).parents[2] / "docs" / "sandbox.md"


@pytest.mark.parametrize("layers", SETS.values(), ids=SETS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(attack, layers, fresh):
    active = [name for name in layers if name in host().active]
    if not active:
        pytest.skip(f"no {' or '.join(layers)} here: " + "; ".join(layer.reason for layer in host().layers))
    result, heard = _play(attack, active, fresh)
    got_out = attack.escaped(result, fresh) or heard
    assert result.status != "error", result
    if attack.stops(active):
        assert not got_out, f"{attack.name} got past {active}: {result}"
    elif not got_out:
        if reason := attack.host(fresh, active):
            pytest.skip(f"this machine stops it without {' or '.join(attack.stopped_by)}: {reason}")
        pytest.fail(f"{active} stopped {attack.name} although the table does not say so: {result}")


def _play(attack: Attack, active: list[str], stage: Stage) -> tuple[Result, bool]:
    """Run it; also whether something that it left behind still spoke, over a pipe that it was given."""
    with _company(attack.company, stage) as (channels, still_speaks):
        with open_sandbox(only=active).start(
            PRELUDE + attack.source,
            arguments=[json.dumps(stage.given)],
            channels=channels,
            files=attack.files,
            limits=attack.limits,
        ) as guest:
            result = guest.wait()
        return result, still_speaks()


@contextmanager
def _company(kind: str, stage: Stage) -> Iterator[tuple[list[int], Callable[[], bool]]]:
    """What else an attack needs: a pipe to speak through, a terminal, or somebody who knocks at its door."""
    if kind == "pipe":
        reading, writing = os.pipe()
        try:
            yield (
                [writing],
                lambda: bool(select.select([reading], [], [], DAEMON_SECONDS)[0]) and os.read(reading, 1) != b"",
            )
        finally:
            os.close(reading)
            os.close(writing)
    elif kind == "terminal":
        master, terminal = pty.openpty()
        try:
            yield [terminal], lambda: False
        finally:
            os.close(master)
            os.close(terminal)
    elif kind == "visitor":
        gone = threading.Event()
        visitor = threading.Thread(target=_knock, args=(stage.given["free"], gone))
        visitor.start()
        try:
            yield [], lambda: False
        finally:
            gone.set()
            visitor.join()
    else:
        yield [], lambda: False


def _knock(port: int, gone: threading.Event) -> None:
    while not gone.wait(0.05):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()


def test_enough_attacks_and_all_of_them_stopped_where_all_layers_are():
    assert len(ATTACKS) >= 40
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    for attack in ATTACKS:
        assert attack.stopped_by == ALWAYS or set(attack.stopped_by) <= set(LAYERS), attack.name
        assert attack.stops(LAYERS), attack.name


def test_the_page_has_the_same_table():
    """Print the rows with: pytest -s -k same_table, when an attack was added."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "●" in line]
    expected = [_row(attack) for attack in ATTACKS]
    print("", *expected, sep="\n")
    assert rows == expected


def _row(attack: Attack) -> str:
    if attack.stopped_by == ALWAYS:
        return f"| {attack.name} | ● | | | | |"
    marks = "".join(f" {_mark(attack, name)} |" if name in attack.stopped_by else " |" for name in LAYERS)
    return f"| {attack.name} | |{marks}"


def _mark(attack: Attack, layer: str) -> str:
    return f"● ABI {attack.abi}" if layer == "landlock" and attack.abi else "●"
