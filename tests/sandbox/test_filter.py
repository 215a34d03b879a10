"""The seccomp filter, run by an interpreter of classic BPF: what it decides, for both processors and any argument."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from thinksmith.sandbox import seccomp
from thinksmith.sandbox.launcher import OWN_PID
from thinksmith.sandbox.syscalls import ARCHITECTURES, NUMBERS

ALLOW, KILL = "allow", "kill"
MACHINES = tuple(ARCHITECTURES)
HIGH = 0xDEAD_BEEF << 32


def decide(program: bytes, arch: int, number: int, *arguments: int) -> str | int:
    """ "allow", "kill", or the errno that the call fails with."""
    padded = [*arguments, *(0 for _ in range(6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            value = struct.unpack_from("<I", data, k)[0]
        elif op == 0x54:
            value &= k
        elif op == 0x06:
            return ALLOW if k == 0x7FFF_0000 else KILL if k == 0x8000_0000 else k & 0xFFFF
        else:
            at += yes if {0x15: value == k, 0x35: value >= k}[op] else no


def decision(machine: str, name: str, *arguments: int, own_files: bool = False, processes: bool = False) -> str | int:
    number = NUMBERS[name][MACHINES.index(machine)]
    if number is None:
        pytest.skip(f"{machine} has no {name}")
    program = seccomp.build(machine, own_files=own_files, processes=processes)
    return decide(program, ARCHITECTURES[machine], number, *arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_that_is_not_listed_is_refused(machine):
    program = seccomp.build(machine, own_files=True, processes=True)
    column = MACHINES.index(machine)
    listed = {row[column] for row in NUMBERS.values()}
    for number in set(range(1000)) - listed:
        assert decide(program, ARCHITECTURES[machine], number) == errno.ENOSYS
    for name in seccomp.ALLOWED:
        if (number := NUMBERS[name][column]) is not None:
            assert decide(program, ARCHITECTURES[machine], number, *[2**64 - 1] * 6) == ALLOW
    assert len(program) // 8 < 4096


def test_foreign_ways_in_are_refused():
    program = seccomp.build("x86_64", own_files=True, processes=True)
    read = NUMBERS["read"][0]
    assert decide(program, ARCHITECTURES["x86_64"], 0x4000_0000 | read) == errno.ENOSYS  # x32
    assert decide(program, 0x4000_0003, 3) == KILL  # i386
    assert decide(program, ARCHITECTURES["aarch64"], 63) == KILL


THREAD = 0x3D0F00  # what glibc's pthread_create asks clone for
FORK = 0x1200011
REFUSED = errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (THREAD,), ALLOW),
        ("clone", (THREAD | HIGH,), ALLOW),
        ("clone", (FORK,), REFUSED),
        ("clone", (THREAD | 0x1000_0000,), REFUSED),
        ("clone3", (), errno.ENOSYS),
        ("fork", (), REFUSED),
        ("vfork", (), REFUSED),
        ("execve", (), REFUSED),
        ("kill", (OWN_PID, 15), ALLOW),
        ("kill", (OWN_PID | HIGH, 15), ALLOW),
        ("kill", (1, 15), REFUSED),
        ("kill", (2**64 - 1, 0), REFUSED),
        ("tgkill", (OWN_PID, 9, 15), ALLOW),
        ("tgkill", (9, OWN_PID, 15), REFUSED),
        ("socket", (1, 1), REFUSED),
        ("socketpair", (1, 1), ALLOW),
        ("socketpair", (1, 1 | 0o2000000 | 0o4000), ALLOW),
        ("socketpair", (1, 2), REFUSED),
        ("socketpair", (2, 1), REFUSED),
        ("sendto", (3, 4, 5, 0, 0, 0), ALLOW),
        ("sendto", (3, 4, 5, 0, 1, 0), REFUSED),
        ("sendto", (3, 4, 5, 0, 1 << 32, 0), REFUSED),
        ("prlimit64", (0, 7), ALLOW),
        ("prlimit64", (1, 7), REFUSED),
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), REFUSED),
        ("prctl", (22,), REFUSED),
        ("fcntl", (3, 4), ALLOW),
        ("fcntl", (3, 8), REFUSED),
        ("fcntl", (3, 10), REFUSED),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), REFUSED),
        ("ioctl", (0, 0x541C), REFUSED),
        ("ioctl", (0, 0x5412 | HIGH), REFUSED),
        ("setsockopt", (3, 1, 7), ALLOW),
        ("setsockopt", (3, 1, 26), REFUSED),
        ("fchmodat", (3, 4, 0o700), REFUSED),
        ("utimensat", (), REFUSED),
        ("linkat", (), REFUSED),
        ("getxattr", (), errno.ENOTSUP),
    ],
)
def test_arguments(machine, name, arguments, expected):
    if NUMBERS.get(name) is None:  # not even named: refused like all that is not
        assert expected == errno.ENOSYS
        return
    assert decision(machine, name, *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_wider_ways(machine):
    assert decision(machine, "fchmodat", 3, 4, 0o755, own_files=True) == ALLOW
    assert decision(machine, "fchmodat", 3, 4, 0o4755, own_files=True) == REFUSED
    assert decision(machine, "utimensat", own_files=True) == ALLOW
    assert decision(machine, "clone", FORK, processes=True) == ALLOW
    for flags in (0x1000_0000, 0x8000, 0x2000, 0x2_0000):  # namespaces, a sibling, traced, mounts
        assert decision(machine, "clone", FORK | flags, processes=True) == REFUSED
    assert decision(machine, "kill", 5, 9, processes=True) == ALLOW
    assert decision(machine, "execve", processes=True) == REFUSED


@pytest.mark.skipif(os.uname().machine not in MACHINES, reason="no filter for this processor")
def test_numbers_are_this_machines():
    """A few calls by number, through the kernel: the column of this machine is the right one."""
    import ctypes

    system = ctypes.CDLL(None).syscall
    column = MACHINES.index(os.uname().machine)
    assert system(NUMBERS["getpid"][column]) == os.getpid()
    assert system(NUMBERS["getppid"][column]) == os.getppid()
    assert system(NUMBERS["sched_yield"][column]) == 0
    assert system(NUMBERS["getuid"][column]) == os.getuid()
