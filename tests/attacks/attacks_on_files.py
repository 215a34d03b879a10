"""Reading, writing and spoiling files that are not the guest's."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from attack import ALWAYS, Attack, Stage, only_root, setting, undumpable

from thinksmith.sandbox import view

KEPT = ("namespaces", "landlock")


def _no_attributes(stage: Stage, layers: Sequence[str]) -> str:
    try:
        os.setxattr(stage.canary, "user.tried", b"1")
    except OSError as error:
        return f"this file system has no such attributes: {error}"
    return ""


def _not_the_owner(stage: Stage, layers: Sequence[str]) -> str:
    import json

    return "" if os.stat(json.__file__).st_uid == stage.user else "the standard library is another user's"


def _nothing_installed(stage: Stage, layers: Sequence[str]) -> str:
    files = stage.given["installed"]
    if stage.user == 0 and files:
        return ""
    return "" if any(view.open_to_all([path]) for path in files) else "every installed package is closed to others"


DISKS = ("/dev/[svx]d[a-z]", "/dev/nvme?n1")

ATTACKS = (
    Attack("read a file outside", "if open(given['canary']).read(): escaped()", KEPT),
    Attack("list the home folder", "if os.listdir(given['home']): escaped()", KEPT),
    Attack("see whether a file exists", "if os.stat(given['canary']).st_size: escaped()", ("namespaces",)),
    Attack("change into a folder outside and read", "os.chdir(given['home']); open('canary').read(); escaped()", KEPT),
    Attack(
        "climb out with .. from an open folder",
        "here = os.open('.', os.O_RDONLY)\n"
        "open(os.open('../' * 20 + given['canary'][1:], os.O_RDONLY, dir_fd=here)).read(); escaped()",
        KEPT,
    ),
    Attack("go through /proc/self/root", "open('/proc/self/root' + given['canary']).read(); escaped()", KEPT),
    Attack(
        "read an installed package",
        """
for path in given['installed']:
    try:
        if open(path, 'rb').read(): escaped(path)
    except OSError: pass
""",
        KEPT,
        host=_nothing_installed,
    ),
    Attack("symbolic link out", "os.symlink(given['canary'], 'x'); open('x').read(); escaped()", KEPT),
    Attack(
        "hard link to a file outside",
        "os.link(given['canary'], 'x'); open('x').read(); escaped()",
        ("namespaces", "landlock", "seccomp"),
    ),
    Attack("overwrite a file outside", "open(given['canary'], 'r+').write('!'); escaped()", KEPT),
    Attack("truncate a file outside", "os.truncate(given['canary'], 0); escaped()", KEPT),
    Attack("create a file outside", "open(given['home'] + '/new', 'w').close(); escaped()", KEPT),
    Attack("delete a file outside", "os.unlink(given['spare']); escaped()", KEPT),
    Attack("move a file in from outside", "os.rename(given['spare'], 'x'); escaped()", KEPT),
    Attack("move a file out", "open('x', 'w').close(); os.rename('x', given['home'] + '/x'); escaped()", KEPT),
    Attack(
        "change the mode of a file outside", "os.chmod(given['canary'], 0o777); escaped()", ("namespaces", "seccomp")
    ),
    Attack(
        "change the group of a file outside",
        "os.chown(given['canary'], -1, os.getgid()); escaped()",
        ("namespaces", "seccomp"),
    ),
    Attack(
        "change the times of a file outside", "os.utime(given['canary'], (1, 1)); escaped()", ("namespaces", "seccomp")
    ),
    Attack(
        "set an attribute of a file outside",
        "os.setxattr(given['canary'], 'user.x', b'x'); escaped()",
        ("namespaces", "seccomp"),
        host=_no_attributes,
    ),
    Attack(
        "watch a file outside",
        "system('inotify_add_watch', system('inotify_init1', 0), given['canary'].encode(), 2); escaped()",
        ("namespaces", "seccomp"),
    ),
    Attack("make a set-user-id file", "open('x', 'w').close(); os.chmod('x', 0o4755); escaped()", ("seccomp",)),
    Attack(
        "make a device node",
        "import stat; os.mknod('x', 0o666 | stat.S_IFCHR, os.makedev(1, 3)); escaped()",
        ALWAYS,
    ),
    Attack(
        "spoil the standard library",
        "import json; open(json.__file__, 'r+b').close(); escaped()",
        KEPT,
        host=_not_the_owner,
    ),
    Attack(
        "other guests' work folders",
        "if [n for n in os.listdir(given['temporary']) if n.startswith('guest-') and n not in os.getcwd()]: escaped()",
        KEPT,
    ),
    Attack(
        "environment of a process",
        "if open(f\"/proc/{given['victim']}/environ\").read(): escaped()",
        KEPT,
        host=undumpable,
    ),
    Attack(
        "root and working folder of a process",
        "for link in 'root', 'cwd':\n    if os.listdir(f\"/proc/{given['victim']}/{link}\"): escaped()",
        KEPT,
        host=undumpable,
    ),
    Attack(
        "descriptors of a process",
        "folder = f\"/proc/{given['victim']}/fd\"\nfor n in os.listdir(folder): os.stat(f'{folder}/{n}'); escaped()",
        KEPT,
        host=undumpable,
    ),
    Attack(
        "raw disk",
        f"""
import glob
for name in [found for path in {DISKS} for found in glob.glob(path)]:
    try: os.close(os.open(name, os.O_RDONLY)); escaped(name)
    except OSError: pass
""",
        KEPT,
        host=only_root(*DISKS),
    ),
    Attack(
        "settings of the kernel",
        "os.close(os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)); escaped()",
        KEPT,
        host=only_root("/proc/sys/kernel/core_pattern"),
    ),
    Attack(
        "system requests",
        "os.close(os.open('/proc/sysrq-trigger', os.O_WRONLY)); escaped()",
        KEPT,
        host=only_root("/proc/sysrq-trigger"),
    ),
    Attack("mount", "system('mount', b'x', os.getcwd().encode(), b'tmpfs', 0, 0); escaped()", ALWAYS),
    Attack("chroot", "os.chroot('.'); escaped()", ALWAYS),
    Attack(
        "open a file by its handle",
        """
handle = ctypes.create_string_buffer(b"\\x80\\0\\0\\0", 136)
number = ctypes.c_int()
folder = os.open(".", os.O_RDONLY)
system("name_to_handle_at", folder, b"", handle, ctypes.byref(number), 0x1000)
os.close(system("open_by_handle_at", folder, handle, os.O_RDONLY)); escaped()
""",
        ALWAYS,
    ),
    Attack(
        "user namespace of its own",
        "system('unshare', 0x10000000); escaped()",
        ("seccomp",),
        host=setting("/proc/sys/user/max_user_namespaces", tuple(map(str, range(1, 1 << 20)))),
    ),
    Attack("environment of the parent", "if 'SECRET' in os.environ or 'PYTHONPATH' in os.environ: escaped()", ALWAYS),
    Attack(
        "descriptors of the parent",
        f"""
for number in range(3, 300):
    try:
        if os.read(number, {len(b"tweet")}): escaped(number)
    except OSError: pass
""",
        ALWAYS,
    ),
    Attack(
        "the host's name",
        f"if os.uname().nodename == {socket.gethostname()!r}: escaped()",
        ("namespaces",),
    ),
)
