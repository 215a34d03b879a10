"""A lock between starting a process and forking this one.

A process that is being started is given one end of pipes whose other end we watch. Whoever forks at that moment has a
copy of the given end as well, and the pipe stays open as long as that child lives: subprocess.Popen waits on such a
pipe, and so would a verdict. So a fork waits until the copies are closed, a matter of milliseconds.
"""

from __future__ import annotations

import os
import threading

no_fork = threading.RLock()
"""Hold it over the making of such pipes until the given ends are closed, and never while waiting for anything else.

It can be taken again by the thread that holds it, so that a signal handler which forks there does not wait for itself.
"""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=no_fork.release)
