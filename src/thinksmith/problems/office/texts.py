"""Tasks over texts: logs, notices, letters, settings, pages."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from itertools import pairwise
from random import Random

from thinksmith.problems.office.task import Task, csv, edit, listing, money, read, table, write
from thinksmith.problems.office.words import FIRMS, HOSTS, THINGS, TOWNS, code, days, people


def newest_error(rng: Random) -> Task:
    """The newest error of a log that was put together out of two, and so is not in order."""
    hosts = [f"{name}-{rng.randint(1, 9)}" for name in rng.sample(HOSTS, 5)]
    words = ("disk is nearly full", "connection lost", "timeout while reading", "retry failed", "checksum differs")
    errors = days(rng, 4)
    entries = [(day, rng.randint(0, 86_399), hosts[at], "ERROR") for at, day in enumerate(errors)]
    entries.append((errors[-1] + timedelta(days=2), rng.randint(0, 86_399), hosts[4], "WARN"))
    entries += [
        (day, rng.randint(0, 86_399), rng.choice(hosts), rng.choice(("INFO", "INFO", "WARN"))) for day in days(rng, 24)
    ]
    rng.shuffle(entries)
    newest = entries.index(next(each for each in entries if each[2:] == (hosts[3], "ERROR") and each[0] == errors[3]))
    entries.insert(rng.randint(0, len(entries) // 2), entries.pop(newest))  # not the last one
    last = next(each[2] for each in reversed(entries) if each[3] == "ERROR")
    if last == hosts[3]:
        entries.append((errors[0], 1, hosts[0], "ERROR"))
        last = hosts[0]
    text = "".join(
        f"{day} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} {level:<5} {host}: {rng.choice(words)}\n"
        for day, second, host, level in entries
    )
    name = rng.choice(("logs/merged.log", "logs/all-hosts.log", "merged.log"))
    return Task(
        level=1,
        prompt=f"{name} was put together out of several logs, so it is not in order. Which host wrote the newest entry "
        "of level ERROR?",
        files={name: text},
        answer={"text": hosts[3]},
        solution=(read(name),),
        said=f"The newest ERROR is of {errors[3]}.\n\nAnswer: {hosts[3]}",
        foolish=(),
        nonsense=f"Answer: {last}",
    )


def count_status(rng: Random) -> Task:
    """Count rows of a status over several files; notes that name the status are no rows of it."""
    status, *others = rng.sample(("cancelled", "returned", "delivered", "open", "delayed"), 4)
    year = rng.choice((2024, 2025))
    months = [f"{year}-{month:02}" for month in range(1, 13)]
    begin = rng.randint(1, 9)
    chosen = months[begin : begin + 3]
    files, count, everywhere = {}, 0, 0
    for month in sorted({*chosen, months[begin - 1]}):
        rows = []
        for number in range(rng.randint(8, 14)):
            state = rng.choice((status, *others))
            note = rng.choice(("", "", f"not {status}", f"was {status} once", "fragile"))
            rows.append((f"{month[2:4]}{number:03}", rng.choice(THINGS), state, note))
            count += state == status and month in chosen
            everywhere += (state == status) + (status in note)
        files[f"orders/{month}.csv"] = csv(("order", "item", "status", "note"), rows)
    wrong = everywhere if everywhere != count else count + 1
    return Task(
        level=1,
        prompt=f"How many orders of the months {', '.join(sorted(chosen))} have the status `{status}`? The files are "
        "in orders/.",
        files=files,
        answer={"number": str(count)},
        solution=(listing(), *(read(f"orders/{month}.csv") for month in sorted(chosen))),
        said=f"I counted the column `status` of the three files.\n\nAnswer: {count}",
        foolish=(),
        nonsense=f"Answer: {wrong}",
    )


def fill_letter(rng: Random) -> Task:
    """A letter out of a template and the right one of several records."""
    names = people(rng, 6)
    header = ("name", "town", "item", "due")
    rows = [
        (name, town, thing, day)
        for name, town, thing, day in zip(names, rng.sample(TOWNS, 6), rng.sample(THINGS, 6), days(rng, 6), strict=True)
    ]
    chosen = rng.randrange(6)
    twin = f"{names[chosen].split()[0]} {names[chosen - 1].split()[1]}"  # the same first name
    rows.insert(rng.randint(0, 6), (twin, "Wesel", "pebble", days(rng, 1)[0]))
    template = (
        "{name}\n{town}\n\nDear {name},\n\n"
        + rng.choice(("thank you for lending us the {item}.", "the {item} that you ordered has come in."))
        + f"\nPlease {rng.choice(('call', 'write', 'visit'))} us before {{due}}.\n\n{rng.choice(FIRMS)}\n"
    )
    row = next(each for each in rows if each[0] == names[chosen])
    other = next(each for each in rows if each[0] == twin)
    out = f"letters/{names[chosen].split()[1].lower()}.txt"
    filled = template.format(**dict(zip(header, map(str, row), strict=True)))
    wrong = template.format(**dict(zip(header, map(str, other), strict=True)))
    return Task(
        level=1,
        prompt=f"Write the letter to {names[chosen]} to {out}: the text of template.txt, with what stands in braces "
        "filled in from clients.csv. Change nothing else in the text.",
        files={"template.txt": template, "clients.csv": csv(header, rows)},
        wanted={out: {"text": filled}},
        solution=(read("template.txt"), read("clients.csv"), write(out, filled, f"The row of {names[chosen]}.")),
        said=f"The letter is in {out}.",
        foolish=(write(out, wrong, f"The row of {names[chosen].split()[0]}."),),
        nonsense="The letter is written.",
    )


def follow_pointers(rng: Random) -> Task:
    """A word at the end of a chain of notes, each of which names the next."""
    folders = [f"{rng.choice(THINGS)}-{number}" for number in range(1, 9)]
    length = rng.randint(3, 5)
    chain = [f"{folders[at]}/{rng.choice(('note', 'memo', 'card'))}.txt" for at in range(length)]
    secret, decoy = f"{rng.choice(TOWNS)}-{code(rng)}", f"{rng.choice(TOWNS)}-{code(rng, 3)}"
    what = rng.choice(("code of the archive", "name of the spare key", "number of the old contract"))
    files = {"start.txt": f"Where the {what} stands is written in {chain[0]}.\n"}
    for here, after in pairwise(chain):
        files[here] = f"Not here any more: it went on to {after}.\n"
    files[chain[-1]] = f"The {what} is {secret}.\n"
    files[f"{folders[6]}/note.txt"] = f"The {what} was {decoy} until last year.\n"
    files[f"{folders[7]}/note.txt"] = f"Not here any more: it went on to {folders[6]}/note.txt.\n"
    return Task(
        level=1,
        prompt=f"What is the {what}? Begin with start.txt.",
        files=files,
        answer={"text": secret},
        solution=(read("start.txt"), *(read(path) for path in chain)),
        said=f"The last note says it.\n\nAnswer: {secret}",
        foolish=(),
        nonsense=f"Answer: {decoy}",
    )


def rename_setting(rng: Random) -> Task:
    """Rename a setting in all files, and not those whose names only begin like it."""
    noun = rng.choice(("timeout", "retries", "cache", "workers", "limit"))
    old, new = f"{noun}_{rng.choice(('max', 'total', 'size'))}", f"{rng.choice(('max', 'top', 'full'))}_{noun}"
    value, other = code(rng, 3), code(rng, 2)
    files = {
        "config/app.ini": f"[app]\n{old} = {value}\n{old}_extra = {other}\nname = {rng.choice(THINGS)}\n",
        "config/prod.yaml": f"server:\n  my_{old}: {other}\n  {old}: {value + 1}  # {old} of one host\n",
        "run.sh": f"#!/bin/sh\nexec serve --set {old}={value} --set name={rng.choice(THINGS)}\n",
        "docs/settings.md": f"# Settings\n\n`{old}`: at most {value}. See also `{old}_extra`.\n",
        "docs/history.md": f"# History\n\n1.{rng.randint(0, 9)}: `{noun}` is new.\n",
    }
    whole = re.compile(rf"(?<!\w){old}(?!\w)")
    right = {path: whole.sub(new, text) for path, text in files.items()}
    changed = [path for path in files if right[path] != files[path]]
    return Task(
        level=1,
        prompt=f"The setting `{old}` is called `{new}` from now on. Rename it in all files of this folder, comments "
        f"and documents too. Other settings, such as `{old}_extra` and `my_{old}`, keep their names.",
        files=files,
        wanted={path: {"text": right[path]} for path in changed},
        solution=(listing(), *(step for path in changed for step in (read(path), write(path, right[path])))),
        said=f"I renamed it in {len(changed)} files.",
        foolish=tuple(edit(path, old, new, "Everywhere at once.", every=True) for path in changed),
        nonsense="The setting is renamed everywhere.",
    )


def memo_edits(rng: Random) -> Task:
    """Apply a memo's changes to a price list; one of them is taken back at the end."""
    things = rng.sample(THINGS, 9)
    prices = {thing: rng.randint(300, 9_000) for thing in things}
    one, two, three, four = rng.sample(things, 4)
    cut, fresh = rng.randint(50, 250), rng.choice([each for each in THINGS if each not in things])
    fresh_price, last = code(rng), code(rng)
    memo = (
        f"To: office\nAbout: prices\n\n1. The {one} costs {money(prices[one] + cut)} from now on.\n"
        f"2. The {two} becomes {money(cut)} cheaper.\n3. We no longer sell the {three}: take it out.\n"
        f"4. New: {fresh}, {money(fresh_price)}, at the end of the list.\n5. The {four} costs {money(last)}.\n\n"
        f"PS of {rng.choice(('Tuesday', 'Friday'))}: forget number 5, the {four} stays as it is.\n"
    )
    changed = prices | {one: prices[one] + cut, two: prices[two] - cut}
    right = [(thing, money(changed[thing])) for thing in things if thing != three] + [(fresh, money(fresh_price))]
    wrong = [(thing, money(last) if thing == four else price) for thing, price in right]
    header = ("item", "price")
    return Task(
        level=2,
        prompt="Change prices.csv as memo.txt says.",
        files={"prices.csv": csv(header, [(thing, money(prices[thing])) for thing in things]), "memo.txt": memo},
        wanted={"prices.csv": table(header, right, ordered=True)},
        solution=(
            read("memo.txt"),
            read("prices.csv"),
            write("prices.csv", csv(header, right), "Numbers 1 to 4; number 5 was taken back."),
        ),
        said="prices.csv is as the memo says, without number 5, which it takes back.",
        foolish=(write("prices.csv", csv(header, wrong), "All five."),),
        nonsense="All five changes are made.",
    )


def newer_notice(rng: Random) -> Task:
    """Notices that contradict each other: the newest holds that is in force, whatever its file is called."""
    subject = rng.choice(("claiming travel costs", "returning a laptop", "booking the big room", "paying an invoice"))
    dates = days(rng, 4, 2025)
    values = rng.sample(range(5, 60), 4)
    names = rng.sample(("notice-a.txt", "notice-b.txt", "notice-c.txt", "notice-d.txt"), 4)
    files = {
        f"notices/{name}": f"Notice of {day:%d %B %Y}\n\nFor {subject} there are {value} days.\n"
        for name, day, value in zip(names[:3], dates, values, strict=False)
    }
    files[f"notices/{names[3]}"] = (
        f"DRAFT of {dates[3]:%d %B %Y}, not yet in force\n\nFor {subject} there would be {values[3]} days.\n"
    )
    files["README.txt"] = "Notices: the newest one that is in force holds. Names of files say nothing.\n"
    return Task(
        level=2,
        prompt=f"How many days are there for {subject}? The notices are in notices/.",
        files=files,
        answer={"number": str(values[2])},
        solution=(listing(), read("README.txt"), *(read(path) for path in sorted(files) if path != "README.txt")),
        said=f"The newest notice in force is that of {dates[2]:%d %B %Y}.\n\nAnswer: {values[2]}",
        foolish=(read(f"notices/{names[3]}"),),
        nonsense=f"Answer: {values[3]}",
    )


def restore_backup(rng: Random) -> Task:
    """Put a missing file back from the newest backup that is sound."""
    name = f"reports/{rng.choice(('annual', 'spring', 'stock', 'travel'))}.txt"
    dates = days(rng, 4)
    bodies = [
        f"Report of {rng.choice(FIRMS)}\n" + "".join(f"{thing}: {code(rng, 3)}\n" for thing in rng.sample(THINGS, 4))
        for _ in dates
    ]
    files = {f"backups/{day}/{name}": body for day, body in zip(dates, bodies, strict=True)}
    files[f"backups/{dates[-1]}/{name}"] = "\n".join(bodies[-1].split("\n")[:2]) + "\n"  # cut off
    files["backups/LOG.txt"] = "".join(
        f"{day} {'FAILED: disk full, files are cut off' if day == dates[-1] else 'ok'}\n" for day in dates
    )
    files["reports/other.txt"] = f"Report of {rng.choice(FIRMS)}\n"
    source = f"backups/{dates[-2]}/{name}"
    return Task(
        level=2,
        prompt=f"{name} is gone. Put it back from the newest backup that is sound (backups/LOG.txt says how each "
        "went).",
        files=files,
        wanted={name: {"text": files[source]}},
        solution=(read("backups/LOG.txt"), listing(), read(source), write(name, files[source])),
        said=f"{name} is back, from the backup of {dates[-2]}.",
        foolish=(write(name, files[f"backups/{dates[-1]}/{name}"], "From the newest."),),
        nonsense=f"{name} is back.",
    )


def json_by_schema(rng: Random) -> Task:
    """A card as JSON, by a schema."""
    thing, firm = rng.choice(THINGS), rng.choice(FIRMS)
    price, stock, tags = code(rng, 5), rng.randint(0, 300), rng.sample(("new", "heavy", "gift", "fragile", "red"), 2)
    sold = rng.random() < 0.5
    schema = """{
  "type": "object",
  "properties": {
    "name": {"type": "string"},
    "maker": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "price_cents": {"type": "integer"},
    "stock": {"type": "integer"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "on_sale": {"type": "boolean"},
    "weight_kg": {"type": ["number", "null"]}
  },
  "required": ["name", "maker", "price_cents", "stock", "tags", "on_sale", "weight_kg"],
  "additionalProperties": false
}
"""
    right = {
        "name": thing,
        "maker": {"name": firm},
        "price_cents": price,
        "stock": stock,
        "tags": tags,
        "on_sale": sold,
        "weight_kg": None,
    }
    card = (
        f"{thing}, made by {firm}\nprice: {money(price)} EUR ({'on sale' if sold else 'not on sale'})\n"
        f"in stock: {stock}\ntags: {', '.join(tags)}\nweight: not known\n"
    )
    wrong = right | {"price_cents": money(price), "weight_kg": "not known"}
    return Task(
        level=2,
        prompt="Write what card.txt says as JSON to card.json, so that it fulfils schema.json. Tags stay in their "
        "order; what is not known is null.",
        files={"card.txt": card, "schema.json": schema},
        wanted={"card.json": {"json": right}},
        solution=(read("card.txt"), read("schema.json"), write("card.json", _json(right))),
        said="card.json holds the card.",
        foolish=(read("card.txt"), write("card.json", _json(wrong), "As it stands on the card.")),
        nonsense="card.json is written.",
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def broken_links(rng: Random) -> Task:
    """Links of several pages to files that were moved."""
    names = rng.sample(THINGS, 5)
    moved = {
        f"{name}.md": f"{rng.choice(('guide', 'manual', 'parts'))}/{name}-{rng.randint(2, 9)}.md" for name in names[:3]
    }
    stay = [f"{name}.md" for name in names[3:]]
    pages = {
        "index.md": "# Index\n\n" + "".join(f"- [{old[:-3]}]({old})\n" for old in [*moved, *stay]),
        "help.md": f"# Help\n\nSee [here]({names[1]}.md#use) or the page {names[1]}.md on {stay[0]}.\n",
        "start.md": f"# Start\n\n[{names[0]}]({names[0]}.md), then [{names[3]}]({stay[0]}).\n",
    }
    files = dict(pages) | {path: f"# {path.rpartition('/')[2][:-3]}\n" for path in [*moved.values(), *stay]}
    files["MOVED.txt"] = "".join(f"{old} -> {new}\n" for old, new in moved.items())
    right = {}
    for path, text in pages.items():
        for old, new in moved.items():
            text = text.replace(f"]({old}", f"]({new}")
        right[path] = text
    changed = [path for path in pages if right[path] != pages[path]]
    return Task(
        level=2,
        prompt="Some pages were moved, see MOVED.txt. Mend the links (what stands in parentheses behind brackets) in "
        "index.md, help.md and start.md, so that they lead to the files where they are now. Other text stays.",
        files=files,
        wanted={path: {"text": right[path]} for path in changed},
        solution=(
            read("MOVED.txt"),
            *(step for path in changed for step in (read(path), write(path, right[path]))),
        ),
        said="The links are mended.",
        foolish=(write("index.md", right["index.md"], "The index is what matters."),),
        nonsense="The links are mended.",
    )
