"""What a database complains about, as one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from thinksmith.errors import UserError

_ELSE = "or name another store with THINKSMITH_STORE"
_ADVICE = {
    "SQLITE_FULL": "the disk is full: free some space and run it again; what was stored before is kept",
    "SQLITE_IOERR": "reading or writing failed: is the disk full, or gone? What was stored before is kept",
    "SQLITE_BUSY": "another program keeps it locked: wait for that program or stop it, then run it again",
    "SQLITE_LOCKED": "another program keeps it locked: wait for that program or stop it, then run it again",
    "SQLITE_READONLY": f"it is read-only: make the file and its folder writable, {_ELSE}",
    "SQLITE_PERM": f"access is denied: change the file's permissions, {_ELSE}",
    "SQLITE_CANTOPEN": f"it cannot be opened: make the file and its folder writable, {_ELSE}",
    "SQLITE_NOTADB": "it is not a database: name another file with THINKSMITH_STORE",
    "SQLITE_CORRUPT": "the file is damaged: move it away (`sqlite3 FILE .recover` saves what it can), start a new one",
}


def explain(error: DatabaseError | InterfaceError, where: str) -> str:
    """One line about the store at `where`. SQLite's primary code decides: SQLITE_IOERR for SQLITE_IOERR_WRITE."""
    name = str(getattr(error.orig, "sqlite_errorname", ""))
    primary = "_".join(name.split("_")[:2])
    detail = " ".join(str(error.orig).split()) or name
    advice = _ADVICE.get(primary)
    return f"the store {where}: {advice} ({detail})" if advice else f"the store {where} does not answer: {detail}"


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn the database's complaints into UserErrors. Broken constraints and wrong SQL are bugs of ours: they pass."""
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise
    except (DatabaseError, InterfaceError) as error:
        raise UserError(explain(error, where)) from error
    except UnicodeDecodeError as error:  # SQLite quotes a damaged table's name in its complaint
        raise UserError(f"the store {where}: {_ADVICE['SQLITE_CORRUPT']}") from error
    except PoolTimeout as error:
        raise UserError(f"the store {where}: too many threads use it at once") from error


@contextmanager
def undamaged(where: str) -> Iterator[None]:
    """Turn the failure to decode a row into a UserError: SQLite has no checksums, a damaged file can yield nonsense."""
    try:
        yield
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"the store {where} holds a row that cannot be read ({error}): the file is damaged") from error
