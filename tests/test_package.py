"""What is shipped: the wheel's contents and version, and a repository free of private paths and dead links."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest

import thinksmith

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "thinksmith"
MOST_BYTES = 20_000_000
# Joined here so that this file does not hold what it looks for.
PRIVATE = tuple(
    "".join(parts)
    for parts in (
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/tmp/", "arch"),
        ("/opt/", "pypi"),
        ("pypi", "-more"),
        ("/opt/", "wheels"),
        ("files.python", "hosted.org"),
        ("download.", "pytorch.org"),
    )
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the test extra installs hatchling, with which the wheel is built")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet"]
    done = subprocess.run([*command, "--wheel-dir", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_what_an_installed_program_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("thinksmith/")}
        names = archive.namelist()
    needed = [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {"py.typed", "recipes/quickstart.toml"} <= {path.relative_to(SOURCE).as_posix() for path in needed}
    assert any(path.match("templates/*.html") for path in needed)
    for path in needed:
        name = path.relative_to(SOURCE.parent).as_posix()
        assert packed.get(name) == path.read_bytes(), f"the wheel has no {name}, or another one"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for folder in (path for path in (SOURCE / "models").iterdir() if (path / "config.json").exists()):
        assert any(name.startswith(f"thinksmith/models/{folder.name}/") for name in packed)


def test_the_wheel_carries_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            assert path.parts[0] == "thinksmith" or path.parts[0].endswith(".dist-info"), name
            assert not {"tests", "bench", "__pycache__", "checkpoints"} & set(path.parts), name
            assert path.suffix not in (".pyc", ".db", ".log"), name
    assert wheel.stat().st_size <= MOST_BYTES


def test_the_version_is_the_same_everywhere(wheel: Path) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = re.search(r"^## \[(\S+?)\]", changelog, flags=re.MULTILINE)
    assert top is not None
    assert top[1] == thinksmith.__version__
    assert wheel.name.split("-")[:2] == ["thinksmith", thinksmith.__version__]


def test_the_wheel_states_its_licence_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert re.search(r"^Requires-Dist: torch<2\.14,>=2\.11$", metadata, flags=re.MULTILINE)
    assert "thinksmith = thinksmith.cli.main:run" in entry_points


def _files() -> list[Path]:
    """The files of the repository: those that git tracks or would; in an unpacked archive all but hidden folders."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    if done.returncode == 0:
        found = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    else:
        built = {".venv", "build", "dist", "runs", "__pycache__"}
        found = [path for path in ROOT.rglob("*") if not built & set(path.relative_to(ROOT).parts)]
        found = [path for path in found if not any(".pytest" in part or "_cache" in part for part in path.parts)]
    return [path for path in found if path.is_file()]


def test_no_file_names_private_paths_or_hosts() -> None:
    files = _files()
    assert len(files) > 100
    for path in files:
        content = path.read_bytes()
        for private in PRIVATE:
            assert private.encode() not in content, f"{path.relative_to(ROOT)} names {private}"


def test_no_file_is_large() -> None:
    for path in _files():
        assert path.stat().st_size <= MOST_BYTES, f"{path.relative_to(ROOT)} has {path.stat().st_size:,} bytes"


DOCUMENTS = [path for path in _files() if path.suffix == ".md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = unquote(link).partition("#")
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{document.name} links to {link}"
        if anchor:
            assert anchor in _anchors(path), f"{document.name} links to {link}, but no heading is called that"


def test_the_index_of_documents_is_complete() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, f"docs/README.md does not list {page.name}"


def _anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
