"""`thinksmith doctor`: what this machine has, and whether code that nobody trusts can be run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from thinksmith.sandbox import Host


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Show the machine and the layers of the sandbox; exit with 1 if untrusted code cannot be run."""
    from thinksmith.cli.screen import console, print_table, write
    from thinksmith.sandbox import host

    found, machine = host(), _machine()
    if as_json:
        import sys
        from json import dumps

        write(sys.stdout, dumps({"machine": machine, "sandbox": _sandbox(found)}, ensure_ascii=False, indent=2))
    else:
        out = console()
        print_table(out, ("machine", ""), [(name, str(value)) for name, value in machine.items()])
        out.print()
        rows = [
            (layer.name, "active" if layer.active else "missing", "; ".join(filter(None, (layer.reason, layer.remedy))))
            for layer in found.layers
        ]
        print_table(out, ("sandbox", "", ""), rows)
        for what, names in found.keepers().items():
            out.print(f"{what}: {'kept by ' + ', '.join(names) if names else 'kept by nothing'}")
        out.print()
        out.print("untrusted code can be run" if found.isolates else "untrusted code is not run: see what is missing")
    if not found.isolates:
        raise typer.Exit(1)


def _sandbox(found: Host) -> dict[str, Any]:
    from dataclasses import asdict

    return {"isolates": found.isolates, "layers": [asdict(layer) for layer in found.layers], "keeps": found.keepers()}


def _machine() -> dict[str, str]:
    """What decides how fast things go here, in words."""
    import os
    import platform
    import shutil

    import torch

    from thinksmith.engines.local.memory import free_bytes

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    compiler = os.environ.get("CC", "cc")
    return {
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "processor": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "GPU": torch.cuda.get_device_name() if gpu else "none",
        "free memory": f"{free_bytes(device) / 2**30:.1f} GiB",
        "C compiler": compiler
        if shutil.which(compiler.split()[0] if compiler.split() else "")
        else "none: the local engine uses transformers' decoder, which is slower (apt install gcc)",
    }
