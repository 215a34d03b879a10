"""Tasks over tables in CSV files."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from thinksmith.problems.office.task import Task, csv, lines, listing, money, program, read, table, write
from thinksmith.problems.office.words import DEPARTMENTS, FIRMS, THINGS, code, days, people


def sum_column(rng: Random) -> Task:
    """Add up a column; some amounts are refunds, below zero."""
    column = rng.choice(("amount", "revenue", "net", "paid"))
    name = f"{rng.choice(('sales', 'takings', 'ledger', 'till'))}-{rng.choice(('north', 'south', 'east', 'west'))}.csv"
    out = rng.choice(("total.txt", "sum.txt", "result.txt"))
    dates = days(rng, rng.randint(12, 18))
    refunds = set(rng.sample(range(len(dates)), 2))
    cents = [rng.randint(500, 90_000) * (-1 if at in refunds else 1) for at in range(len(dates))]
    rows = [(day, rng.choice(THINGS), rng.randint(1, 9), money(each)) for day, each in zip(dates, cents, strict=True)]
    older = [(day - timedelta(days=365), rng.choice(THINGS), 1, money(code(rng))) for day in dates[:6]]
    values = ", ".join(f"'{money(each)}'" for each in cents)
    return Task(
        level=1,
        prompt=f"Add up the column `{column}` of {name} (refunds are negative and count) and write the sum, with two "
        f"decimals and nothing else, to {out}.",
        files={
            name: csv(("date", "item", "pieces", column), rows),
            f"old/{name}": csv(("date", "item", "pieces", column), older),
        },
        wanted={out: {"number": money(sum(cents))}},
        solution=(
            read(name),
            program(
                f"from decimal import Decimal\nprint(sum(map(Decimal, [{values}])))",
                "I add the amounts up in Python.",
                total=r"\n(-?\d+\.\d\d)\n",
            ),
            write(out, "{{total}}\n"),
        ),
        said=f"The sum is {{{{total}}}}, and stands in {out}.",
        foolish=(write(out, money(sum(map(abs, cents))) + "\n", "The signs will not matter."),),
        nonsense=f"I have written the sum to {out}.",
    )


def sorted_names(rng: Random) -> Task:
    """List the people of a department, by their last names."""
    staff = people(rng, rng.randint(14, 20))
    wanted_in, *others = rng.sample(DEPARTMENTS, 4)
    placed = [
        (name, wanted_in if at < 5 else rng.choice(others), rng.randint(1998, 2025)) for at, name in enumerate(staff)
    ]
    rng.shuffle(placed)
    out = f"{wanted_in}-{rng.choice(('list', 'team', 'names'))}.txt"
    chosen = [name for name, department, _ in placed if department == wanted_in]
    right = sorted(chosen, key=lambda name: name.split()[1])
    by_first = sorted(chosen)
    wrong = by_first if by_first != right else [*right[1:], right[0]]
    return Task(
        level=1,
        prompt=f"Write the full names of everybody in the department {wanted_in} (see staff.csv) to {out}, one a line, "
        "in alphabetical order of their last names.",
        files={"staff.csv": csv(("name", "department", "since"), placed)},
        wanted={out: lines(right, ordered=True)},
        solution=(read("staff.csv"), write(out, "\n".join(right) + "\n", "By last name, not by first.")),
        said=f"{out} lists the {len(right)} people of {wanted_in}.",
        foolish=(write(out, "\n".join(wrong) + "\n", "Sorted as they stand."),),
        nonsense="The list is written.",
    )


def unit_table(rng: Random) -> Task:
    """Inches to centimetres, for each row of a table."""
    parts = rng.sample(THINGS, rng.randint(8, 12))
    inches = [rng.randint(2, 96) for _ in parts]
    header = ("part", rng.choice(("length_cm", "width_cm", "height_cm")))
    # In tenths of a millimetre no whole number of inches is a tie.
    tenths = [(each * 254 + 5) // 10 for each in inches]
    right = [(part, f"{each // 10}.{each % 10}") for part, each in zip(parts, tenths, strict=True)]
    wrong = [(part, f"{each * 2.5:.1f}") for part, each in zip(parts, inches, strict=True)]
    return Task(
        level=1,
        prompt=f"parts.csv gives sizes in inches. Write the same table in centimetres to metric.csv, with the columns "
        f"{header[0]},{header[1]} and values rounded to one decimal (an inch is 2.54 cm). Leave parts.csv as it is.",
        files={"parts.csv": csv(("part", header[1].replace("cm", "in")), list(zip(parts, inches, strict=True)))},
        wanted={"metric.csv": table(header, right)},
        solution=(read("parts.csv"), write("metric.csv", csv(header, right), "Each value times 2.54.")),
        said="metric.csv holds the table in centimetres.",
        foolish=(write("metric.csv", csv(header, wrong), "An inch is about 2.5 cm."),),
        nonsense="The table is converted.",
    )


def merge_tables(rng: Random) -> Task:
    """Join two tables by key; some keys have no partner."""
    firms = rng.sample(FIRMS, 6)
    keys = rng.sample(range(100, 1000), 8)
    known = dict(zip(keys, firms, strict=False))  # two keys are nobody's
    orders = [(f"A{number}", rng.choice(keys), money(rng.randint(900, 99_000))) for number in range(51, 61)]
    orders += [("A61", keys[-1], money(code(rng))), ("A62", keys[0], money(code(rng)))]
    missing = rng.choice(("unknown", "nobody", "none"))
    header = ("order", "customer", "amount")
    right = [(order, known.get(key, missing), amount) for order, key, amount in orders]
    listed = list(known.items())
    rng.shuffle(listed)
    return Task(
        level=2,
        prompt="Make merged.csv out of orders.csv and customers.csv: one row for each order, with the columns "
        f"order,customer,amount, where customer is the name. Where a number is in no row of customers.csv, the name is "
        f"{missing}.",
        files={
            "orders.csv": csv(("order", "customer_number", "amount"), orders),
            "customers.csv": csv(("number", "name"), listed),
        },
        wanted={"merged.csv": table(header, right)},
        solution=(
            read("orders.csv"),
            read("customers.csv"),
            write("merged.csv", csv(header, right), "I look each number up."),
        ),
        said="merged.csv has a row for each order.",
        foolish=(
            write("merged.csv", csv(header, [row for row in right if row[1] != missing]), "Those without go out."),
        ),
        nonsense="The tables are merged.",
    )


def dedupe_contacts(rng: Random) -> Task:
    """One row a person: the newest, whatever letters the address is written in."""
    names = people(rng, 9)
    header = ("name", "email", "phone", "updated")
    rows: list[tuple[str, str, str, date]] = []
    right: list[tuple[str, str, str, date]] = []
    for at, name in enumerate(names):
        address = f"{name.replace(' ', '.')}@{rng.choice(FIRMS)}.example".lower()
        copies = rng.randint(2, 3) if at < 4 else 1
        for day in days(rng, copies):
            written = rng.choice((address, address.upper(), address.title())) if copies > 1 else address
            rows.append((name, written, f"0{code(rng, 3)} {code(rng, 6)}", day))
        right.append(rows[-1])
    rng.shuffle(rows)
    wrong = list({row[1].lower(): row for row in reversed(rows)}.values())
    if sorted(wrong) == sorted(right):
        wrong = rows
    return Task(
        level=2,
        prompt="contacts.csv holds some people more than once: the same e-mail address, perhaps in other letters "
        "(upper or lower case). Write contacts-clean.csv with the same columns and one row a person, the one with the "
        "newest `updated`. Write the addresses in lower case. Leave contacts.csv as it is.",
        files={"contacts.csv": csv(header, rows)},
        wanted={"contacts-clean.csv": table(header, [(row[0], row[1].lower(), *row[2:]) for row in right])},
        solution=(
            read("contacts.csv"),
            write(
                "contacts-clean.csv",
                csv(header, [(row[0], row[1].lower(), *row[2:]) for row in right]),
                "The newest of each address.",
            ),
        ),
        said="contacts-clean.csv holds each person once.",
        foolish=(
            write(
                "contacts-clean.csv",
                csv(header, [(row[0], row[1].lower(), *row[2:]) for row in wrong]),
                "The first of each.",
            ),
        ),
        nonsense="The doubles are gone.",
    )


def currency_total(rng: Random) -> Task:
    """Expenses in several currencies, by rates that change; each counts at the rate of its day."""
    marks = rng.sample(("USD", "GBP", "CHF", "SEK", "NOK"), 2)
    changes = days(rng, 3)
    rates = {mark: [rng.randint(40, 130) for _ in changes] for mark in marks}  # cents for one
    for values in rates.values():
        values[2] = values[0] + 7  # so that the last rate is another than the first
    listed = [
        (day, mark, f"0.{rates[mark][at]:02}" if rates[mark][at] < 100 else money(rates[mark][at]))
        for at, day in enumerate(changes)
        for mark in marks
    ]
    who = people(rng, 1)[0]
    when = [*changes, *(changes[at] + timedelta(days=rng.randint(0, 3)) for at in (0, 1, 2, 1))]
    spent = [(day, rng.choice(marks), rng.randint(11, 400)) for day in when]
    spent += [(changes[0], marks[0], 100), (changes[2], "EUR", rng.randint(11, 400))]
    spent.sort()
    total = sum(amount * (100 if mark == "EUR" else _rate(rates[mark], changes, day)) for day, mark, amount in spent)
    at_last = sum(amount * (100 if mark == "EUR" else rates[mark][-1]) for _, mark, amount in spent)
    wrong = at_last if at_last != total else total + 100
    pieces = ", ".join(
        f"({amount}, {100 if mark == 'EUR' else _rate(rates[mark], changes, day)})" for day, mark, amount in spent
    )
    return Task(
        level=3,
        prompt=f"expenses.csv lists what {who} spent. Work out the sum in EUR and write it, with two decimals and "
        "nothing else, to claim.txt. A rate of rates.csv (EUR for one of the currency) holds from its date on, that "
        "day included, until the next one of that currency.",
        files={
            "expenses.csv": csv(("date", "currency", "amount"), spent),
            "rates.csv": csv(("from", "currency", "rate"), listed),
        },
        wanted={"claim.txt": {"number": money(total)}},
        solution=(
            read("expenses.csv"),
            read("rates.csv"),
            program(
                f"cents = sum(amount * rate for amount, rate in [{pieces}])\n"
                "print(f'{cents // 100}.{cents % 100:02}')",
                "Each amount times the rate of its day, in cents.",
                total=r"\n(\d+\.\d\d)\n",
            ),
            write("claim.txt", "{{total}}\n"),
        ),
        said="The claim is {{total}} EUR.",
        foolish=(write("claim.txt", money(wrong) + "\n", "At the newest rates."),),
        nonsense="The claim is written.",
    )


def _rate(values: list[int], changes: list[date], day: date) -> int:
    """The last that began on or before the day."""
    return next(value for value, begin in reversed(list(zip(values, changes, strict=True))) if begin <= day)


def unpaid_invoices(rng: Random) -> Task:
    """Invoices against a bank statement: what was paid in part, or of which too little came, is not paid."""
    year = rng.choice((2025, 2026))
    numbers = rng.sample(range(11, 99), 9)
    firms = [rng.choice(FIRMS) for _ in numbers]
    cents = [rng.randint(5_000, 300_000) for _ in numbers]
    open_ones = set(rng.sample(numbers, 2))
    partly = rng.choice([each for each in numbers if each not in open_ones])
    invoices = [(f"INV-{year}-{n:03}", firm, money(c)) for n, firm, c in zip(numbers, firms, cents, strict=True)]
    booked = []
    for number, firm, amount in zip(numbers, firms, cents, strict=True):
        if number in open_ones:
            continue
        text = rng.choice((f"INV {year} {number:03}", f"inv{year}{number:03}", f"invoice INV-{year}-{number:03}"))
        paid = amount - rng.randint(500, 4_000) if number == partly else amount
        booked.append(f"{firm:<12} {text:<26} +{money(paid)}")
    booked += [f"{rng.choice(FIRMS):<12} {'rent':<26} -{money(code(rng, 5))}"]
    rng.shuffle(booked)
    right = [f"INV-{year}-{number:03}" for number in numbers if number in open_ones or number == partly]
    wrong = [f"INV-{year}-{number:03}" for number in numbers if number in open_ones]
    return Task(
        level=3,
        prompt="Compare invoices.csv with the bank statement in bank.txt. Write the numbers of the invoices that are "
        "not paid in full to unpaid.txt, one a line, written as in invoices.csv.",
        files={
            "invoices.csv": csv(("number", "customer", "amount"), invoices),
            "bank.txt": f"Statement {year}\n\n" + "\n".join(booked) + "\n",
        },
        wanted={"unpaid.txt": lines(right)},
        solution=(
            listing(),
            read("invoices.csv"),
            read("bank.txt"),
            write("unpaid.txt", "\n".join(right) + "\n", "One of them was paid in part only, so it counts."),
        ),
        said=f"{len(right)} invoices are not paid in full.",
        foolish=(write("unpaid.txt", "\n".join(wrong) + "\n", "Those that the bank does not mention."),),
        nonsense="unpaid.txt is written.",
    )
