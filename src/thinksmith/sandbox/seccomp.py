"""The layer `seccomp`: which system calls a guest may make, as a classic BPF program for x86_64 and aarch64.

It is a list of what is allowed: whatever a newer kernel brings is refused until somebody has thought about it. Refused
calls fail (ENOSYS, or EPERM where a program may well try) and do not kill, so libraries fall back to what is there.

    no socket of any family; socketpair makes connected AF_UNIX streams only, and a message may name no address
    no new program (execve), no process but threads, no namespaces, no tracing, no signal but to itself
    no io_uring, bpf, keyctl, userfaultfd, perf, mounts, modules, System V or POSIX queues and shared memory, memfd

A filter sees numbers and no strings, so it cannot tell a path: files are kept by the other layers. What Landlock does
not cover is refused here instead: modes, owners, times and attributes of files (`own_files` lets modes and times by).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from thinksmith.sandbox.launcher import OWN_PID
from thinksmith.sandbox.syscalls import ARCHITECTURES, NUMBERS

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_FAIL = 255  # as a jump: to the end of the block, where the refusal stands
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x4000_0000

_ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat creat close close_range
stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 lseek getdents getdents64 getcwd
chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 readlink readlinkat symlink symlinkat
truncate ftruncate fallocate fsync fdatasync flock fadvise64 sendfile copy_file_range umask
dup dup2 dup3 pipe pipe2 eventfd eventfd2
epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6
timerfd_create timerfd_settime timerfd_gettime
brk mmap munmap mprotect mremap madvise msync mincore membarrier
exit exit_group wait4 waitid futex set_tid_address set_robust_list rseq sched_yield
sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min getcpu
getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp getpgid getsid
uname sysinfo times getrusage gettimeofday time clock_gettime clock_getres clock_nanosleep nanosleep getrandom
alarm pause getitimer setitimer getrlimit setrlimit
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack restart_syscall
recvfrom recvmsg sendmsg shutdown getsockopt getsockname getpeername
"""
_REFUSED = """
socket connect bind listen accept accept4 execve execveat tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal
chown lchown fchown fchownat link linkat mknod mknodat sched_setaffinity
"""
_NO_ATTRIBUTES = "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr"

ALLOWED = _ALLOWED.split()
"""Allowed whatever the arguments are."""
REFUSED = _REFUSED.split()
"""Refused with EPERM: programs try these, and "not permitted" reads better than "not implemented"."""

_TIMES = ("utime", "utimes", "futimesat", "utimensat")
_SET_ID = 0o7000
_NEW_NAMESPACE = 0x7E02_0000
_CLONE_THREAD, _CLONE_PARENT, _CLONE_PTRACE = 0x1_0000, 0x8000, 0x2000
_IOCTLS = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # is it a terminal, how large, what waits, FIO{NBIO,NCLEX,CLEX}
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)  # copies, flags, locks; never F_SETOWN: it sends signals
_PRCTLS = (15, 16)  # the thread's name
_SOCKET_OPTIONS = (7, 8, 20, 21)  # sizes and timeouts
_AF_UNIX, _SOCK_STREAM, _SOL_SOCKET = 1, 1, 1


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition on an argument. `mask` is applied first, if not 0; `wide` compares all 64 bits with 0."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0
    wide: bool = False


def _conditions(own_files: bool, processes: bool) -> dict[str, tuple[Rule, ...]]:
    """System calls that are allowed if all of their rules hold, else EPERM."""
    foreign = _NEW_NAMESPACE | _CLONE_PARENT | _CLONE_PTRACE
    itself = () if processes else (Rule(0, (OWN_PID,)),)
    rules: dict[str, tuple[Rule, ...]] = {
        "clone": (Rule(0, (0,), foreign),) + (() if processes else (Rule(0, (_CLONE_THREAD,), _CLONE_THREAD),)),
        "kill": itself,
        "tgkill": itself,
        "prlimit64": (Rule(0, (0,)),),
        "prctl": (Rule(0, _PRCTLS),),
        "fcntl": (Rule(1, _FCNTLS),),
        "ioctl": (Rule(1, _IOCTLS),),
        "socketpair": (Rule(0, (_AF_UNIX,)), Rule(1, (_SOCK_STREAM,), 0xF)),
        "sendto": (Rule(4, (0,), wide=True),),
        "setsockopt": (Rule(1, (_SOL_SOCKET,)), Rule(2, _SOCKET_OPTIONS)),
    }
    if own_files:
        rules |= {"chmod": (Rule(1, (0,), _SET_ID),), "fchmod": (Rule(1, (0,), _SET_ID),)}
        rules |= {"fchmodat": (Rule(2, (0,), _SET_ID),)} | dict.fromkeys(_TIMES, ())
    if processes:
        rules |= dict.fromkeys(("fork", "vfork", "setsid", "setpgid"), ())
    return rules


@cache
def build(machine: str, *, own_files: bool, processes: bool) -> bytes:
    """The filter as an array of struct sock_filter, with OWN_PID where the guest puts its process id.

    machine: as in os.uname(). own_files: all files that the guest can name are its own or read-only, so it may change
    modes and times. processes: it may fork (still no other program); only inside a pid namespace, for it may then
    signal every process that it sees. Raises KeyError for a machine that is not in ARCHITECTURES.
    """
    numbers = {name: row[list(ARCHITECTURES).index(machine)] for name, row in NUMBERS.items()}
    code = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, ARCHITECTURES[machine]), (_RETURN, 0, 0, _KILL_PROCESS)]
    code += [(_LOAD, 0, 0, _NR)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    conditions = _conditions(own_files, processes)
    for name in ALLOWED:
        code += _block(numbers[name], (), errno.EPERM)
    for name, rules in conditions.items():
        code += _block(numbers[name], rules, errno.EPERM)
    for name in (*REFUSED, *_TIMES, "chmod", "fchmod", "fchmodat", "fork", "vfork", "kill", "tgkill"):
        if name not in conditions:
            code += _refusal(numbers[name], errno.EPERM)
    for name in _NO_ATTRIBUTES.split():
        code += _refusal(numbers[name], errno.ENOTSUP)
    code += [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _refusal(number: int | None, error: int) -> list[tuple[int, int, int, int]]:
    return [] if number is None else [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | error)]


def _block(number: int | None, rules: Iterable[Rule], error: int) -> list[tuple[int, int, int, int]]:
    """If the call has this number: allow it if all rules hold, else fail it. A processor may not have the call."""
    if number is None:
        return []
    body = [instruction for rule in rules for instruction in _test(rule)]
    body += [(_RETURN, 0, 0, _ALLOW)]
    if len(body) > 1:
        body += [(_RETURN, 0, 0, _ERRNO | error)]
    last = len(body) - 1
    resolved = [
        (code, yes, last - at - 1 if no == _FAIL else no, value) for at, (code, yes, no, value) in enumerate(body)
    ]
    return [(_EQUAL, 0, len(body), number), *resolved]


def _test(rule: Rule) -> list[tuple[int, int, int, int]]:
    """Falls through if the rule holds. The kernel reads most arguments as 32 bits, so the lower half decides."""
    offset = _ARGUMENTS + 8 * rule.argument
    if rule.wide:
        return [step for half in (0, 4) for step in ((_LOAD, 0, 0, offset + half), (_EQUAL, 0, _FAIL, rule.values[0]))]
    code = [(_LOAD, 0, 0, offset)] + ([(_AND, 0, 0, rule.mask)] if rule.mask else [])
    for place, value in enumerate(rule.values):
        left = len(rule.values) - place - 1
        code += [(_EQUAL, left, 0 if left else _FAIL, value)]
    return code
