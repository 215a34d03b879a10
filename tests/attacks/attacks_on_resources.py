"""Using more than was given: bounded in size and time, so that a layer that does not stop them does no harm."""

from __future__ import annotations

from collections.abc import Sequence

from attack import ALWAYS, Attack, Stage

from thinksmith.sandbox import Limits, Result

MIB = 1 << 20


def _ended_in_time(result: Result, stage: Stage) -> bool:
    """Whether the limit on the clock, or on what is written, did NOT end it."""
    return result.status not in ("timeout", "output") or result.seconds > 10


def _no_core_files(stage: Stage, layers: Sequence[str]) -> str:
    import resource

    return "" if resource.getrlimit(resource.RLIMIT_CORE)[1] else "this system writes no core files anyway"


ATTACKS = (
    Attack(
        "memory",
        "x = bytearray(300 << 20); escaped()",
        ("limits",),
        limits=Limits(seconds=5, memory=256 * MIB),
    ),
    Attack(
        "memory of many small things",
        "x = []\nfor _ in range(300): x.append(bytes(1 << 20))\nescaped()",
        ("limits",),
        limits=Limits(seconds=5, memory=256 * MIB),
    ),
    Attack(
        "memory in shared segments",
        "system('shmctl', system('shmget', 0, 1 << 20, 0o1600), 0, 0); escaped()",
        ("seccomp",),
    ),
    Attack("memory in nameless files", "os.close(system('memfd_create', b'x', 0)); escaped()", ("seccomp",)),
    Attack(
        "memory that is never paged out",
        "x = ctypes.create_string_buffer(8192); system('mlock', x, 8192); escaped()",
        ("seccomp", "limits"),
    ),
    Attack(
        "disk, one file",
        "with open('x', 'wb') as file:\n    for _ in range(100): file.write(bytes(1 << 20))\nescaped()",
        ("namespaces", "limits"),
        limits=Limits(seconds=5, disk=16 * MIB),
    ),
    Attack(
        "disk, many files",
        "import time\nfor n in range(50):\n    with open(str(n), 'wb') as file: file.write(bytes(1 << 20))\n"
        "time.sleep(0.5); escaped()",
        ("namespaces", "limits"),
        limits=Limits(seconds=5, disk=16 * MIB),
    ),
    Attack(
        "disk, deleted files",
        "import time\nheld = []\nfor n in range(50):\n    held.append(open('x', 'wb')); os.unlink('x')\n"
        "    held[-1].write(bytes(1 << 20)); held[-1].flush()\ntime.sleep(0.5); escaped()",
        ("namespaces", "limits"),
        limits=Limits(seconds=5, disk=16 * MIB),
    ),
    Attack(
        "disk, empty files",
        "import time\nfor n in range(5000): os.close(os.open(str(n), os.O_CREAT))\ntime.sleep(0.5); escaped()",
        ("namespaces", "limits"),
        limits=Limits(seconds=60, cpu_seconds=60),
    ),
    Attack(
        "threads",
        "import threading, time\nthreading.stack_size(65536)\n"
        "for _ in range(200): threading.Thread(target=time.sleep, args=(1,), daemon=True).start()\n"
        "time.sleep(0.5); escaped()",
        ("limits",),
        limits=Limits(seconds=5, threads=20),
    ),
    Attack(
        "descriptors",
        "held = [os.dup(0) for _ in range(600)]; escaped()",
        ("limits",),
        limits=Limits(seconds=5, files=64),
    ),
    Attack(
        "processor time",
        "import time\nwhile time.process_time() < 2.5: pass\nescaped()",
        ("limits",),
        limits=Limits(seconds=60, cpu_seconds=1),
    ),
    Attack("never end", "import time\ntime.sleep(60)", ALWAYS, limits=Limits(seconds=0.5), escaped=_ended_in_time),
    Attack(
        "never end, deaf to signals",
        """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
        ALWAYS,
        limits=Limits(seconds=0.5),
        escaped=_ended_in_time,
    ),
    Attack("flood of output", "while True: os.write(1, b'x' * 65536)", ALWAYS, escaped=_ended_in_time),
    Attack("flood of errors", "while True: os.write(2, b'x' * 65536)", ALWAYS, escaped=_ended_in_time),
    Attack(
        "core file",
        "import resource\nsoft, hard = resource.getrlimit(resource.RLIMIT_CORE)\nif hard: escaped()",
        ("limits",),
        host=_no_core_files,
    ),
)
