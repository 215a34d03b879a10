"""Reaching other processes, making new ones, and asking the kernel for what only an administrator may.

Signals are number 0 (is it allowed?), or one that the victim, a process of the test's own, catches. A signal to every
process (-1) is not played: where a layer lets it pass it would reach all that runs here, and with number 0 it tells
nothing. test_filter.py shows that the filter refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence

from attack import ALWAYS, OWN_USER, Attack, Stage, lacking, setting, yama

from thinksmith.sandbox import Limits

SIGNALLED = ("namespaces", "landlock", "seccomp")
TRACED = ("namespaces", "landlock", "seccomp")


def _own_user(stage: Stage, layers: Sequence[str]) -> str:
    """The limit on processes counts a whole user, so it is set only for a guest that is one."""
    return "the guest is a user of its own" if "limits" in layers and stage.user >= OWN_USER else ""


ATTACKS = (
    Attack("signal a process of the same user", "os.kill(given['victim'], 0); escaped()", SIGNALLED, abi=6),
    Attack("signal its group", "os.kill(-given['group'], 0); escaped()", SIGNALLED, abi=6),
    Attack(
        "signal through a descriptor of a process",
        "system('pidfd_send_signal', system('pidfd_open', given['victim'], 0), 0, 0, 0); escaped()",
        SIGNALLED,
        abi=6,
    ),
    Attack(
        "signal by owning a pipe",
        """
import fcntl, time
reading, writing = os.pipe()
fcntl.fcntl(reading, fcntl.F_SETOWN, given["victim"])
fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
os.write(writing, b"x"); time.sleep(0.2)
""",
        SIGNALLED,
        abi=6,
    ),
    Attack("trace a process", "system('ptrace', 0x4206, given['victim'], 0, 0); escaped()", TRACED, host=yama),
    Attack(
        "read the memory of a process",
        "open(f\"/proc/{given['victim']}/mem\", 'rb').close(); escaped()",
        ("namespaces", "landlock"),
        host=yama,
    ),
    Attack(
        "read the memory of a process by process_vm_readv",
        """
import struct
here = ctypes.create_string_buffer(8)
local = struct.pack("PL", ctypes.addressof(here), 8)
system("process_vm_readv", given["victim"], local, 1, struct.pack("PL", given["address"], 8), 1, 0); escaped()
""",
        TRACED,
        host=yama,
    ),
    Attack(
        "take a descriptor of a process",
        "system('pidfd_getfd', system('pidfd_open', given['victim'], 0), 0, 0); escaped()",
        TRACED,
        host=yama,
    ),
    Attack(
        "limits of a process",
        "import resource; resource.prlimit(given['victim'], resource.RLIMIT_NOFILE); escaped()",
        ("namespaces", "seccomp"),
    ),
    Attack(
        "processors of a process",
        "os.sched_setaffinity(given['victim'], os.sched_getaffinity(0)); escaped()",
        ("namespaces", "seccomp"),
    ),
    Attack(
        "priority of a process",
        "system('setpriority', 0, given['victim'], 19); escaped()",
        ("namespaces", "seccomp"),
    ),
    Attack(
        "fork bomb",
        """
import time
for count in range(50):
    if os.fork() == 0:
        time.sleep(0.3); os._exit(0)
escaped()
""",
        ("seccomp",),
        limits=Limits(seconds=5, threads=8),
        host=_own_user,
    ),
    Attack(
        "child that outlives the program",
        """
import time
if os.fork() == 0:
    time.sleep(0.5); os.write(int(os.environ["CHANNELS"]), b"alive"); os._exit(0)
os._exit(0)
""",
        ALWAYS,
        company="pipe",
    ),
    Attack(
        "daemon in a session of its own",
        """
import time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.5); os.write(int(os.environ["CHANNELS"]), b"alive"); os._exit(0)
    os._exit(0)
time.sleep(0.1)
os._exit(0)
""",
        ("namespaces", "seccomp"),
        company="pipe",
    ),
    Attack(
        "run a program",
        "os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', 'print(\"ESCAPED\")'])",
        ("landlock", "seccomp"),
    ),
    Attack(
        "run a program with LD_PRELOAD",
        "os.environ['LD_PRELOAD'] = 'libm.so.6'\n"
        "os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', 'print(\"ESCAPED\")'])",
        ("landlock", "seccomp"),
    ),
    Attack(
        "run a program from memory",
        """
memory = system("memfd_create", b"x", 0)
os.write(memory, bytes.fromhex(given["program"]))
os.execve(memory, ["x"], {})
""",
        ("seccomp",),
    ),
    Attack("become another user", "os.setuid(12345); escaped()", ALWAYS),
    Attack("become another group", "os.setgroups([12345]); escaped()", ALWAYS),
    Attack("load a kernel module", "system('init_module', b'x', 1, b''); escaped()", ALWAYS),
    Attack(
        "set the clock",
        "import struct, time; system('clock_settime', 0, struct.pack('ll', int(time.time()), 0)); escaped()",
        ALWAYS,
    ),
    Attack(
        "set the host's name",
        "name = os.uname().nodename.encode(); system('sethostname', name, len(name)); escaped()",
        ALWAYS,
    ),
    Attack(
        "reboot, with a number that would not",
        "import errno\ntry: system('reboot', 1, 2, 3, 0)\nexcept OSError as error:\n"
        "    if error.errno == errno.EINVAL: escaped()",
        ALWAYS,
    ),
    Attack(
        "raise a limit",
        "import resource; n = resource.getrlimit(7)[1] + 1; resource.setrlimit(7, (n, n)); escaped()",
        ALWAYS,
    ),
    Attack(
        "kernel programs (bpf)",
        "import struct\narray = ctypes.create_string_buffer(struct.pack('IIII', 2, 4, 8, 1), 72)\n"
        "system('bpf', 0, array, 72); escaped()",
        ("seccomp",),
        host=setting("/proc/sys/kernel/unprivileged_bpf_disabled", ("0",)),
    ),
    Attack("userfaultfd", "system('userfaultfd', 1); escaped()", ("seccomp",), host=lacking("userfaultfd", 1)),
    Attack(
        "performance counters",
        "import struct\nwanted = struct.pack('IIQQQQQ', 1, 128, 1, 0, 0, 0, 0x61)\n"
        "system('perf_event_open', ctypes.create_string_buffer(wanted, 128), 0, -1, -1, 0); escaped()",
        ("seccomp",),
        host=setting("/proc/sys/kernel/perf_event_paranoid", ("-1", "0", "1", "2")),
    ),
    Attack("keys of the session", "system('keyctl', 0, -4, 1); escaped()", ("seccomp",)),
    Attack("switch off address randomisation", "system('personality', 0x0040000); escaped()", ("seccomp",)),
)
