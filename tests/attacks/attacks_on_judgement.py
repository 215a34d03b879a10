"""Forging what the parent believes, slipping in modules, and getting at a terminal."""

from __future__ import annotations

from attack import ALWAYS, Attack, Stage, setting

from thinksmith.sandbox import Result


def _believed(result: Result, stage: Stage) -> bool:
    """It exits with 3, whatever it writes."""
    return (result.status, result.exit_code) != ("failed", 3)


def _reason_speaks(result: Result, stage: Stage) -> bool:
    return not result.reason.isprintable() or "SPOKEN" in result.reason


EVIL = b"print('ESCAPED')"

ATTACKS = (
    Attack(
        "forge the launcher's report",
        """
for number in range(3, 300):
    for forged in (b"ready", b"OSError: the sandbox failed", b'{"child-pid": 1}'):
        try: os.write(number, forged)
        except OSError: pass
print("ready"); sys.stdout.flush(); os._exit(3)
""",
        ALWAYS,
        escaped=_believed,
    ),
    Attack(
        "find the report in the launcher's frames",
        """
frame = sys._getframe()
while frame := frame.f_back:
    for orders in list(frame.f_locals.values()) + list(frame.f_globals.values()):
        if isinstance(orders, dict) and isinstance(orders.get("report"), int):
            try: os.write(orders["report"], b"ready"); escaped()
            except OSError: pass
""",
        ALWAYS,
    ),
    Attack(
        "end before the interpreter does",
        "import atexit; atexit.register(print, 'ready'); os._exit(3)",
        ALWAYS,
        escaped=_believed,
    ),
    Attack(
        "put words into the reason",
        "sys.stderr.write('\\x1b]0;SPOKEN\\x07'); os._exit(5)",
        ALWAYS,
        escaped=_reason_speaks,
    ),
    Attack("shadow a module", "import colorsys, wave", ALWAYS, files={"colorsys.py": EVIL, "wave.py": EVIL}),
    Attack(
        "shadow a start-up module", "import sys", ALWAYS, files={"sitecustomize.py": EVIL, "usercustomize.py": EVIL}
    ),
    Attack(
        "add a filter that allows everything",
        # A second filter that allows everything, and a ruleset that does: what is in force stays.
        """
import struct, socket
program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
libc.prctl(22, 2, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)), 0, 0)
socket.create_connection(("127.0.0.1", given["tcp4"]), 2)
""",
        ("namespaces", "landlock", "seccomp"),
        abi=4,
    ),
    Attack("the controlling terminal", "open('/dev/tty', 'w').close(); escaped()", ALWAYS),
    Attack(
        "type into a terminal that it was handed",
        """
import fcntl
terminal = int(os.environ["CHANNELS"])
try: os.setsid()
except OSError: pass
fcntl.ioctl(terminal, 0x540E, 0)
fcntl.ioctl(terminal, 0x5412, b"x"); escaped()
""",
        ("seccomp",),
        host=setting("/proc/sys/dev/tty/legacy_tiocsti", ("1", "missing")),
        company="terminal",
    ),
)
