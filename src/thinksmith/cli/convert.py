"""`thinksmith convert MODEL --to gguf|ollama|hf`: take a model to where others run it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="tiny, a folder, an adapter's folder, or a hub id.")],
    to: Annotated[Literal["gguf", "ollama", "hf"], typer.Option(help="llama.cpp, Ollama, or Hugging Face's format.")],
    out: Annotated[Path | None, typer.Option(help="File (gguf) or folder. [default: by the model's name]")] = None,
    quantize: Annotated[
        Literal["f32", "f16", "bf16", "q8_0"] | None, typer.Option(help="How weights are held. [default: f16]")
    ] = None,
) -> None:
    """Write a model as GGUF, with a Modelfile for Ollama, or as a Hugging Face folder; adapters are merged in."""
    from thinksmith.convert.weights import load_to_convert
    from thinksmith.errors import UserError

    if to == "hf" and quantize:
        raise UserError("--quantize is for gguf and ollama: a Hugging Face folder keeps the weights as they are")
    name = Path(model.rstrip("/")).name.replace(":", "-") or "model"
    policy = load_to_convert(model)
    if to == "hf":
        _hf(policy, out or Path(f"{name}-hf"))
        return
    kind = quantize or "f16"
    if to == "gguf":
        _gguf(policy, out or Path(f"{name}-{kind}.gguf"), kind)
        return
    from thinksmith.convert.ollama import modelfile

    folder = out or Path(f"{name}-ollama")
    path = folder / f"{name}-{kind}.gguf"
    text = modelfile(policy, path)  # told before a long file is written
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Modelfile").write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    _gguf(policy, path, kind)
    short = name.lower().replace("_", "-")
    print(f"next: ollama create {short} -f {folder / 'Modelfile'} && ollama run {short}")


def _gguf(policy: object, path: Path, kind: str) -> None:
    from rich.progress import Progress

    from thinksmith.cli.screen import console
    from thinksmith.convert.gguf import write_gguf

    screen = console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("tensors")
        written = write_gguf(
            policy,  # type: ignore[arg-type]
            path,
            kind,  # type: ignore[arg-type]
            on_tensor=lambda done, total: bar.update(task, completed=done, total=total),
        )
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(written.tensors.items()))
    for note in written.notes:
        print(f"note: {note}")
    print(f"{written.path}: {written.bytes / 1e6:,.1f} MB, tensors: {counts}")


def _hf(policy: object, folder: Path) -> None:
    from thinksmith.convert.hf import write_folder

    size = write_folder(policy, folder)  # type: ignore[arg-type]
    print(f"{folder}: {size / 1e6:,.1f} MB, a Hugging Face folder")
