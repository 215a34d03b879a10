"""`thinksmith fit MODEL`: does it fit, how fast can it go, and what to change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thinksmith.fit.answers.answer import Answer
    from thinksmith.fit.speed.device import Device


def fit(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="A known model, a hub id, a folder, a GGUF file.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="A known device, a TOML file, or this machine.")] = "this",
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Memory that the device has for it.")] = None,
    context: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens of a request: its whole context.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Requests at a time.")] = 1,
    format: Annotated[str | None, typer.Option(metavar="NAME", help="Format of the weights: as published.")] = None,
    kv_format: Annotated[str | None, typer.Option(metavar="NAME", help="Format of keys and values.")] = None,
    engine: Annotated[str | None, typer.Option(metavar="NAME", help="vllm, ollama, llamacpp or local.")] = None,
    prompt: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of a prompt.")] = 256,
    thinking: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Tokens of thinking before an answer.")
    ] = None,
    problems: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How long a collection of traces of N problems takes.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="Traces of each of these problems.")] = 1,
    train: Annotated[str | None, typer.Option(metavar="METHOD", help="Training instead: sft, dpo or grpo.")] = None,
    tuning: Annotated[str, typer.Option(metavar="WHAT", help="full, lora or qlora.")] = "full",
    precision: Annotated[str | None, typer.Option(metavar="TYPE", help="fp32, bf16 or mixed.")] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="adamw, adamw8bit, muon or sgd.")] = "adamw",
    length: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of a sequence that is trained on.")] = 4096,
    micro_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens of a micro-batch: one sequence.")
    ] = None,
    checkpointing: Annotated[bool, typer.Option(help="Recompute activations in the backward pass.")] = False,
    group: Annotated[int, typer.Option(min=1, metavar="N", help="Completions of a prompt in GRPO.")] = 8,
    prompts: Annotated[int, typer.Option(min=1, metavar="N", help="Prompts of a step.")] = 8,
    reference: Annotated[str | None, typer.Option(metavar="WHAT", help="none, adapter or copy.")] = None,
    lora_rank: Annotated[int, typer.Option(min=1, metavar="N", help="Rank of an adapter.")] = 16,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Steps of the whole training.")] = None,
    dollars_per_hour: Annotated[float | None, typer.Option(min=0, metavar="D", help="What the device costs.")] = None,
    table: Annotated[bool, typer.Option("--table", help="The R1 family on this device.")] = False,
    list_devices: Annotated[bool, typer.Option("--devices", help="List the known devices.")] = False,
    list_models: Annotated[bool, typer.Option("--models", help="List the known models.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: exact bytes, tokens per second.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page.")] = None,
) -> None:
    """Tell whether a model fits on a device, how fast it can go, and what to change.

    Nothing is downloaded but a config.
    """
    from thinksmith.fit.answers.lists import family_table
    from thinksmith.fit.answers.lists import list_devices as known_devices
    from thinksmith.fit.answers.lists import list_models as known_models
    from thinksmith.fit.answers.serving import serving
    from thinksmith.fit.answers.training import asked_training, training
    from thinksmith.fit.shapes.catalogue import find_shape

    if list_devices or list_models:
        _show([known_devices() if list_devices else known_models()], as_json, as_markdown, html)
        return
    place = _device(device, memory, dollars_per_hour)
    if table or not models:
        _show([family_table(place, context=context)], as_json, as_markdown, html)
        return
    shapes = [find_shape(name) for name in models]
    if train:
        asked = asked_training(
            place,
            method=train,
            tuning=tuning,
            precision=precision,
            base=format,
            optimizer=optimizer,
            length=length,
            micro_tokens=micro_tokens,
            checkpointing=checkpointing,
            num_generations=group,
            prompts=prompts,
            prompt_tokens=prompt,
            reference=reference,
            lora_rank=lora_rank,
        )
        found = [training(shape, place, asked, steps) for shape in shapes]
    else:
        found = [
            serving(
                shape,
                place,
                engine=engine,
                format=format,
                kv_format=kv_format,
                context=context,
                batch=batch,
                prompt=prompt,
                thinking=thinking,
                problems=problems,
                samples=samples,
            )
            for shape in shapes
        ]
    _show(found, as_json, as_markdown, html)


def _device(name: str, memory: float | None, dollars: float | None) -> Device:
    """The device that is meant, with what was said of it."""
    from dataclasses import replace

    from thinksmith.errors import UserError
    from thinksmith.fit.speed.devices import find_device, with_memory

    found = find_device(name)
    if memory is not None:
        if not 0 < memory < 1e9:
            raise UserError(f"--memory {memory:g} is no size in GB: give a positive one")
        found = with_memory(found, int(memory * 1e9))
    if dollars is not None and not 0 <= dollars < 1e6:
        raise UserError(f"--dollars-per-hour {dollars:g} is no price")
    return found if dollars is None else replace(found, dollars_per_hour=dollars)


def _show(answers: list[Answer], as_json: bool, as_markdown: bool, html: Path | None) -> None:
    import sys
    from json import dumps

    from thinksmith.cli.screen import write
    from thinksmith.fit.answers.sheet import markdown

    if html is not None:
        _write_page(answers, html)
    if as_json:
        data = [answer.data for answer in answers]
        write(sys.stdout, dumps(data[0] if len(data) == 1 else data, ensure_ascii=False, indent=2))
        return
    for number, answer in enumerate(answers):
        if number:
            typer.echo()
        if as_markdown:
            write(sys.stdout, markdown(answer.sheet))
        else:
            _print(answer)


def _print(answer: Answer) -> None:
    """The sheet on the terminal."""
    from rich.text import Text

    from thinksmith.cli.screen import console, one_line, print_table

    styles = {"yes": "bold green", "tight": "bold yellow", "no": "bold red"}
    out, sheet = console(), answer.sheet
    out.print(Text(one_line(sheet.headline), "bold"))
    for fact in sheet.facts:
        out.print(one_line(fact))
    for table in sheet.tables:
        out.print()
        out.print(Text(table.title, "bold"))
        print_table(
            out, table.columns, [[Text(one_line(cell), styles.get(cell, "")) for cell in row] for row in table.rows]
        )
        for note in table.notes:
            out.print(Text(note, "dim"))
    if sheet.notes:
        out.print()
    for note in sheet.notes:
        out.print(Text(note, "dim"))


def _write_page(answers: list[Answer], path: Path) -> None:
    """One page for each answer: `fit.html`, or with several models `fit-1.html`, `fit-2.html`."""
    from thinksmith.errors import UserError
    from thinksmith.fit.answers.page import render

    for number, answer in enumerate(answers, 1):
        file = path if len(answers) == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            file.write_text(render(answer.sheet), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}; name another file with --html") from None
        typer.echo(f"thinksmith: wrote {file}", err=True)
