"""What the guest's interpreter runs first: it shuts itself in, says so, and only then runs the program.

This text is compiled by the parent and handed over, so the guest needs no file of ours. It imports as little as it can:
every module costs time at every start. The order matters: what needs privileges comes first, then they are given up,
then Landlock and seccomp close behind us. If any step fails the program is not run at all.
"""

import sys

TYPE_CHECKING = False  # importing typing, or __future__, would cost more than all else in here
if TYPE_CHECKING:
    from collections.abc import Callable

    from thinksmith.sandbox.orders import Landlock, Orders

READY = b"ready"
"""What the report says once everything is in force. It is closed before the program runs, which so cannot forge it."""
OUT_OF_MEMORY = 219
"""Exit code of a program that ended with a MemoryError."""
OWN_PID = 0x5E1F_51D0
"""Stands in the seccomp filter for the guest's own process id, which nobody knows before it runs."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_FILTER, _SIGKILL = 1, 38, 22, 2, 9
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every processor
_PATH_BENEATH = 1
_FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # what Landlock accepts for something that is no folder
_CAPABILITY_VERSION = 0x2008_0522
_REMOUNT_QUIETLY = 1 << 5 | 1 << 1 | 1 << 2 | 1 << 3  # MS_REMOUNT, no set-uid, no devices, nothing to execute
_NOBODY = 65534


def launch(orders: "Orders") -> None:
    """Shut this process in, report READY, run the program. A failure is reported instead and ends the process."""
    import posix

    report = orders["report"]
    try:
        _restrict(orders)
    except BaseException as error:
        posix.write(report, f"{type(error).__name__}: {error}"[:500].encode(errors="replace"))
        posix._exit(1)
    posix.write(report, READY)
    posix.close(report)
    _run(orders["source"], orders["arguments"], orders["path"])


def _restrict(orders: "Orders") -> None:
    import posix
    import resource

    call = _caller()
    posix.chdir(orders["folder"])
    if orders["mount"]:
        _check(call("mount")(b"work", b".", b"tmpfs", _REMOUNT_QUIETLY, orders["mount"]), "mount")
    if orders["identity"]:
        _become(orders["identity"])
    _give_up_capabilities(call)
    posix.umask(0o077)
    for name, content in orders["files"].items():
        _write(name, content)
    orders["files"].clear()
    _check(call("prctl")(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if orders["parent"]:
        _check(call("prctl")(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "pdeathsig")
        if posix.getppid() != orders["parent"]:
            raise OSError("the parent is gone")
    for which, soft, hard in orders["rlimits"]:
        resource.setrlimit(which, (soft, hard))
    if orders["landlock"] is not None:
        _landlock(call, orders["landlock"])
    if orders["filter"]:
        _seccomp(call, orders["filter"])


def _caller() -> "Callable[[str], Callable[..., int]]":
    """The C library's functions by name, through the bare `_ctypes`: importing ctypes takes three times as long."""
    import _ctypes

    class Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "l"

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Long

    library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    return lambda name: Function(_ctypes.dlsym(library, name))


def _check(result: int, what: str) -> int:
    # A C int comes back in a register whose upper half says nothing.
    if result & 0xFFFF_FFFF == 0xFFFF_FFFF:
        import _ctypes
        import posix

        error = _ctypes.get_errno()
        raise OSError(error, f"{what}: {posix.strerror(error)}")
    return result


def _become(user: int) -> None:
    """Leave root for good. In a container that does not map such a user, `nobody` must do."""
    import posix

    posix.setgroups([])
    for candidate in (user, _NOBODY):
        try:
            posix.chown(".", candidate, candidate)
            posix.setresgid(candidate, candidate, candidate)
            posix.setresuid(candidate, candidate, candidate)
            return
        except OSError as error:
            if candidate == _NOBODY:
                raise OSError(f"cannot leave root: {error}") from None


def _give_up_capabilities(call: "Callable[[str], Callable[..., int]]") -> None:
    header = _CAPABILITY_VERSION.to_bytes(4, sys.byteorder) + bytes(4)
    _check(call("capset")(header, bytes(24)), "capset")


def _write(name: str, content: bytes) -> None:
    """Put one of the caller's files into the work folder. The name was checked by the parent."""
    import posix

    parts = name.split("/")
    for depth in range(1, len(parts)):
        try:  # noqa: SIM105  contextlib is not worth its import
            posix.mkdir("/".join(parts[:depth]))
        except FileExistsError:
            pass
    handle = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW)
    left = memoryview(content)
    while left:
        left = left[posix.write(handle, left) :]
    posix.close(handle)


def _landlock(call: "Callable[[str], Callable[..., int]]", landlock: "Landlock") -> None:
    import posix

    system = call("syscall")
    handled = landlock["handled"]
    ruleset = _check(system(_CREATE_RULESET, handled, len(handled), 0), "landlock_create_ruleset")
    for path, rights in landlock["rules"]:
        try:
            handle = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if posix.fstat(handle).st_mode & 0o170000 != 0o040000:
            rights &= _FILE_RIGHTS
        rule = rights.to_bytes(8, sys.byteorder) + handle.to_bytes(4, sys.byteorder)
        _check(system(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), f"landlock_add_rule {path}")
        posix.close(handle)
    _check(system(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    posix.close(ruleset)


def _seccomp(call: "Callable[[str], Callable[..., int]]", program: bytes) -> None:
    import _ctypes
    import posix

    class Address(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "z"

    order = sys.byteorder
    program = program.replace(OWN_PID.to_bytes(4, order), posix.getpid().to_bytes(4, order))
    size = (len(program) // 8).to_bytes(2, order)
    descriptor = size + bytes(6) + bytes(Address(program))  # struct sock_fprog
    _check(call("prctl")(_PR_SET_SECCOMP, _SECCOMP_FILTER, descriptor, 0, 0), "seccomp")


def _run(source: str, arguments: list[str], path: list[str]) -> None:
    """Run the program as a fresh `__main__`, and end as the bare interpreter would."""
    import _sitebuiltins
    import builtins

    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")  # what `site` adds, and programs use
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")
    main = type(sys)("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    sys.argv = ["program.py", *arguments]
    sys.orig_argv = ["python", *sys.argv]
    sys.path.extend(path)
    try:
        exec(compile(source, "program.py", "exec", dont_inherit=True), main.__dict__)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        frames = error.__traceback__
        while frames and frames.tb_frame.f_code.co_filename == _run.__code__.co_filename:
            frames = frames.tb_next  # ours are no business of the program's
        error.__traceback__ = frames
        sys.excepthook(type(error), error, frames)
        raise SystemExit(OUT_OF_MEMORY if isinstance(error, MemoryError) else 1) from None
