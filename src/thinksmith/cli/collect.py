"""`thinksmith collect PROBLEMS`: traces of one teacher or several, verified and kept, to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from thinksmith.cli.unsafe import UnsafeCode

if TYPE_CHECKING:
    from rich.console import Console

    from thinksmith.distill.collect.budget import Budget
    from thinksmith.distill.collect.collect import Collected

_TEACHER = (
    "Who is asked, as thinksmith models lists them, an endpoint or a folder; again for several at once. 'NAME*16' has"
    " 16 requests at once. [default: as eval's model]"
)
_STRATEGY = "single: k traces of each problem; first: until one is correct, k at most; correct: until k are correct."


def collect(
    problems: Annotated[str, typer.Argument(help="A family, such as arithmetic:digits=2, a data set, or a file.")],
    teacher: Annotated[list[str] | None, typer.Option("--teacher", metavar="NAME", help=_TEACHER)] = None,
    n: Annotated[
        int | None, typer.Option("-n", min=1, metavar="N", help="How many problems. [default: all; 300 of a family]")
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="K", help="How many traces of each problem: see --strategy.")] = 4,
    strategy: Annotated[str, typer.Option(metavar="NAME", help=_STRATEGY)] = "single",
    most: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Most draws of a problem with --strategy correct. [default: 4 k]",
            show_default=False,
        ),
    ] = 0,
    temperature: Annotated[
        float | None, typer.Option(min=0, metavar="T", help="[default: each model's own, else 1]")
    ] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, metavar="P", help="[default: each model's own]")] = None,
    top_k: Annotated[int | None, typer.Option(min=0, metavar="K", help="[default: each model's own]")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of a completion.")] = 8192,
    think: Annotated[int | None, typer.Option(min=0, metavar="N", help="Most tokens of the thinking.")] = None,
    instruction: Annotated[
        str, typer.Option(metavar="TEXT", help="A last paragraph of every question: how to answer.")
    ] = "",
    split: Annotated[str, typer.Option(help="Which split: test is held out from every training.")] = "train",
    seed: Annotated[int, typer.Option(help="Seed of the problems and of the sampling.")] = 0,
    budget: Annotated[
        str, typer.Option(metavar="MUCH", help="Where to stop, such as 5usd or 2Mtokens; a larger one goes on.")
    ] = "",
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Ask for the first few only, and tell what all of it would take.")
    ] = False,
    expect_tokens: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Estimate beforehand, from so many tokens an attempt.", show_default=False
        ),
    ] = 0,
    into: Annotated[
        str, typer.Option(metavar="RUN", help="Go on with this run, though teachers or strategy are others.")
    ] = "",
    unsafe_code: UnsafeCode = False,
) -> None:
    """Collect a teacher's traces, each verified and kept at once. What was interrupted goes on where it stopped."""
    from thinksmith.cli.collecting import Live
    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.cli.screen import console
    from thinksmith.distill.collect.budget import Budget
    from thinksmith.distill.collect.collect import collect as run
    from thinksmith.distill.collect.early import from_tokens
    from thinksmith.distill.collect.goal import Goal
    from thinksmith.distill.collect.teachers import open_teachers
    from thinksmith.evaluate.cards import advised
    from thinksmith.problems.instruct import instructed
    from thinksmith.problems.load import load_checked
    from thinksmith.store.store import Store

    goal = Goal(strategy, k, most)  # type: ignore[arg-type]
    most_of_it = Budget.parse(budget) if budget else None
    given = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed}
    bounds = {"max_tokens": max_tokens, "max_thinking_tokens": think}
    loaded = load_checked(problems, n, split=split, seed=seed)
    if loaded.findings and not goal.judges:
        unusable = f"{len(loaded.findings)} of {len(loaded.problems)} gold answers cannot be verified"
        typer.echo(f"thinksmith: {unusable}, the first: {loaded.findings[0]}", err=True)
    asked = instructed(loaded.problems, instruction)
    live = Live(len(asked))
    with (
        Store.open() as store,
        open_teachers(teacher or [_usual()], lambda info: advised(info, given | bounds)) as teachers,
    ):
        if expect_tokens:
            live.note(f"estimate: {from_tokens(goal, asked, teachers, expect_tokens)}")
            if estimate:
                return
        try:
            with live:
                done = run(
                    asked,
                    teachers,
                    goal=goal,
                    store=store,
                    name=problems,
                    budget=most_of_it,
                    into=into,
                    first_only=estimate,
                    watcher=live,
                )
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {live.kept:,} attempts are kept, and the same command goes on with them"
            ) from None
    _print(console(), done, most_of_it)
    if done.given_up:
        raise typer.Exit(1)


def _usual() -> str:
    import os

    from thinksmith.engines.remote.settings import default_model

    return default_model(os.environ)


def _print(out: Console, done: Collected, budget: Budget | None) -> None:
    from thinksmith.distill.collect.ledger import short

    ledger = done.ledger
    correct = f"{ledger.correct:,} correct"
    out.print(f"collected {ledger.attempts:,} attempts at {done.problems:,} problems, {correct}", style="bold")
    wanted = f"; {done.reached:,} have what {done.goal.spec} wants" if done.goal.judges or not done.complete else ""
    out.print(f"solved    {len(ledger.solved):,} of {done.problems:,} problems{wanted}")
    mean = f", {ledger.tokens / ledger.attempts:,.0f} an attempt" if ledger.attempts else ""
    money = "cost not known" if ledger.cost is None else f"${ledger.cost:,.4g}"
    out.print(f"tokens    {short(ledger.tokens)}{mean}; {money}")
    _print_teachers(out, done)
    if done.stopped == "budget" and budget:
        spent = f"{budget.told(budget.spent(ledger))} of {budget} are spent"
        out.print(f"stopped   at the budget: {spent}; the same command with a larger one goes on")
    elif done.stopped == "first":
        out.print(f"estimate  {done.estimate or 'none: nothing came'}")
        out.print("stopped   after the first few: the same command without --estimate goes on")
    if done.given_up:
        out.print(f"failed    {done.given_up:,} draws ({done.why}); the same command makes them again", style="yellow")
    out.print(f"run       {done.run_id} (thinksmith traces {done.run_id})")


def _print_teachers(out: Console, done: Collected) -> None:
    import math

    import numpy as np

    from thinksmith.cli.screen import one_line, print_table
    from thinksmith.distill.collect.ledger import Account, short
    from thinksmith.evaluate.statistics.stats import share

    rows = []
    accounts = done.ledger.accounts
    for name in [*accounts, *(name for name in done.failed if name not in accounts)]:
        account = accounts.get(name, Account())
        rate, interval = "–", ""
        if account.rates:
            counts_P2 = np.array(list(account.rates.values()), dtype=np.float64)
            found = share(counts_P2[:, 1] / counts_P2[:, 0], int(counts_P2[:, 0].sum()))
            rate, interval = f"{found.mean:.1%}", f"[{found.low:.1%}, {found.high:.1%}]"
        cost = "–" if math.isnan(account.cost) else f"${account.cost:,.4g}"
        cut, failed = account.statuses["truncated"], done.failed.get(name, 0)
        counts = (f"{account.attempts:,}", rate, interval, f"{cut:,}", short(account.tokens), cost, f"{failed:,}")
        rows.append((one_line(name), *counts))
    columns = (
        "teacher",
        ">attempts",
        ">pass rate",
        "95 % interval",
        ">truncated",
        ">tokens",
        ">cost",
        ">failed",
    )
    print_table(out, columns, rows)
    if done.goal.judges:
        first = "draw" if done.goal.unconditional == 1 else f"{done.goal.unconditional} draws"
        out.print(f"pass rates are over the first {first} of each problem; more are made of failed ones", style="dim")
