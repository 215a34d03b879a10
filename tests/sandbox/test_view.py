"""What a guest sees of this machine's files: the standard library, and none of the packages beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from thinksmith.sandbox import Sandbox, bubblewrap, view

READS = """
import os, sys
for path in sys.argv[1:]:
    try:
        print(open(path).read())
    except OSError:
        print("closed")
"""


@pytest.fixture
def library(tmp_path, monkeypatch) -> Iterator[Path]:
    """A readable folder with a module, and folders of installed packages in it and below it."""
    folder = tmp_path / "lib"
    for name in ("site-packages", "python9/site-packages", "python9/dist-packages", "python9/other"):
        (folder / name).mkdir(parents=True)
        (folder / name / "mine.py").write_text(f"WHERE = {name!r}", encoding="utf-8")
    (folder / "linked").mkdir()
    (folder / "linked" / "site-packages").symlink_to("../python9/site-packages")
    (folder / "python9" / "link.py").symlink_to("site-packages/mine.py")
    readable = (*view.readable(), str(folder))
    monkeypatch.setattr(view, "readable", lambda: readable)
    cached = (view.hidden, view.uncovered, bubblewrap.place)
    for function in cached:
        function.cache_clear()
    yield folder
    for function in cached:
        function.cache_clear()


def test_only_what_is_beside_installed_packages_is_read(sandbox, library):
    places = ["python9/other", "site-packages", "python9/site-packages", "python9/dist-packages"]
    given = [str(library / place / "mine.py") for place in places] + [str(library / "python9" / "link.py")]
    result = sandbox.run(READS, arguments=given)
    assert result.stdout.decode().splitlines() == ["WHERE = 'python9/other'", *["closed"] * 4], result


def test_a_package_that_is_given_is_read_wherever_it_lies(sandbox, library):
    result = sandbox.run("import mine; print(mine.WHERE)", packages=[library / "python9" / "site-packages"])
    assert result.stdout == b"python9/site-packages\n", result


def test_a_covered_folder_is_empty_and_stays_so(sandbox, library):
    if "namespaces" not in sandbox.layers:
        pytest.skip("Landlock leaves the names")
    program = "import os, sys\nprint(os.listdir(sys.argv[1]))\nopen(sys.argv[1] + '/x', 'w')"
    result = sandbox.run(program, arguments=[str(library / "site-packages")])
    assert result.stdout == b"[]\n", result
    assert result.stderr.endswith(
        (
            b"Permission denied: '%b/site-packages/x'\n" % os.fsencode(library),
            b"Read-only file system: '%b/site-packages/x'\n" % os.fsencode(library),
        )
    )


def test_nothing_readable_is_of_the_virtual_environment():
    if sys.prefix == sys.base_prefix:
        pytest.skip("this is no virtual environment")
    assert not [path for path in view.readable() if Path(path).is_relative_to(sys.prefix)]
    base = view.outermost(f"{sys.base_prefix}/lib/python3.{sys.version_info.minor}/{name}" for name in view.INSTALLED)
    assert set(base) <= set(view.hidden())


def test_places_of_the_guest_hide_nothing_readable(monkeypatch):
    bubblewrap.place.cache_clear()
    monkeypatch.setattr(view, "readable", lambda: ("/usr/lib", *(f"/{name}/lib" for name in ("work", "work1"))))
    assert [bubblewrap.place(name) for name in ("work", "packages")] == ["/work2", "/packages"]
    bubblewrap.place.cache_clear()


def test_an_interpreter_below_the_usual_work_folder(library, monkeypatch):
    """As if the work folder's usual name were the first part of the library's path."""
    top = library.parts[1]
    assert bubblewrap.place(top) == f"/{top}1"
    place = bubblewrap.place
    monkeypatch.setattr(bubblewrap, "place", lambda name: place(top) if name == "work" else place(name))
    result = Sandbox(("namespaces",), bubblewrap.ways()[0]).run(
        READS, arguments=[str(library / "python9/other/mine.py")]
    )
    if result.status == "error":
        pytest.skip(f"no namespaces here: {result.reason}")
    assert result.stdout == b"WHERE = 'python9/other'\n", result
