"""Tasks over a SQLite database, which can be read and not written."""

from __future__ import annotations

from random import Random

from thinksmith.problems.office.task import Table, Task, csv, query, table, write
from thinksmith.problems.office.words import FIRMS, THINGS, people


def lost_revenue(rng: Random) -> Task:
    """Which three products lost most revenue from one quarter to the next; returns count below zero."""
    things = rng.sample(THINGS, 8)
    year = rng.choice((2024, 2025))
    first, second = rng.choice((("Q1", "Q2"), ("Q2", "Q3"), ("Q3", "Q4")))
    losses = rng.sample(range(20_000, 90_000, 700), 8)  # cents, all different
    rows: list[tuple[str | int | None, ...]] = []
    change: dict[str, int] = {}
    for at, thing in enumerate(things):
        before = rng.randint(100_000, 200_000)
        after = before - losses[at] if at < 5 else before + losses[at]
        change[thing] = after - before
        for quarter, amount in ((first, before), (second, after)):
            part = rng.randint(10_000, 60_000)
            back = rng.randint(5_000, 40_000)
            rows += [
                (at + 1, f"{year}-{quarter}", part),
                (at + 1, f"{year}-{quarter}", amount - part + back),
                (at + 1, f"{year}-{quarter}", -back),
            ]
        rows.append((at + 1, f"{year - 1}-{first}", rng.randint(1_000, 90_000)))
    rng.shuffle(rows)
    worst = sorted(things, key=lambda thing: change[thing])[:3]
    right = [(thing, -change[thing]) for thing in worst]
    lowest = sorted(things[5:], key=lambda thing: -change[thing])
    header = ("product", "loss_cents")
    sql = (
        f"SELECT p.name, SUM(CASE WHEN s.quarter = '{year}-{first}' THEN s.cents ELSE -s.cents END) AS loss "
        f"FROM sales s JOIN products p ON p.id = s.product_id WHERE s.quarter IN ('{year}-{first}', '{year}-{second}') "
        "GROUP BY p.id ORDER BY loss DESC LIMIT 3"
    )
    return Task(
        level=3,
        prompt=f"Which three products lost most revenue from {year}-{first} to {year}-{second}? The database has the "
        "sales in cents; returns are negative and count. Write losses.csv with the columns product,loss_cents (what "
        "was lost, as a positive whole number), the largest loss first.",
        files={"notes.txt": f"Figures of {rng.choice(FIRMS)}.\n"},
        database="shop.db",
        tables={
            "products": Table(
                (("id", "INTEGER PRIMARY KEY"), ("name", "TEXT")),
                tuple((at + 1, each) for at, each in enumerate(things)),
            ),
            "sales": Table((("product_id", "INTEGER"), ("quarter", "TEXT"), ("cents", "INTEGER")), tuple(rows)),
        },
        wanted={"losses.csv": table(header, right, ordered=True)},
        solution=(
            query(sql, "Revenue of both quarters, by product.", rows=r"name,loss\n((?:\w+,\d+\n){3})"),
            write("losses.csv", "product,loss_cents\n{{rows}}"),
        ),
        said="The three that lost most are in losses.csv:\n{{rows}}",
        foolish=(write("losses.csv", csv(header, [(each, abs(change[each])) for each in lowest]), "These look bad."),),
        nonsense=f"{lowest[0]} lost most.",
    )


def null_average(rng: Random) -> Task:
    """An average over what is known: what has not come yet is NULL, and is not zero days late."""
    firms = rng.sample(FIRMS, 4)
    late = {firms[0]: [rng.randint(9, 12), rng.randint(9, 12), None, None, None, None]}  # worst, by what has come
    late[firms[1]] = [rng.randint(6, 7) for _ in range(4)]  # worst, were NULL a zero
    late[firms[2]] = [rng.randint(1, 5) for _ in range(5)]
    late[firms[3]] = [None, rng.randint(0, 3), rng.randint(0, 3)]
    idle = next(each for each in FIRMS if each not in firms)
    listed = [*firms, idle]
    rng.shuffle(listed)
    rows = [(listed.index(firm) + 1, days) for firm, values in late.items() for days in values]
    rng.shuffle(rows)
    sql = (
        "SELECT s.name, AVG(d.days_late) AS late FROM suppliers s JOIN deliveries d ON d.supplier_id = s.id "
        "WHERE d.days_late IS NOT NULL GROUP BY s.id ORDER BY late DESC LIMIT 1"
    )
    return Task(
        level=2,
        prompt="Which supplier is latest on average, over the deliveries that have come? In the database, days_late is "
        "NULL for a delivery that is still on its way. Write the name alone to latest.txt, and answer it too.",
        files={"readme.txt": "The figures are in the database.\n"},
        database="supply.db",
        tables={
            "suppliers": Table(
                (("id", "INTEGER PRIMARY KEY"), ("name", "TEXT")),
                tuple((at + 1, each) for at, each in enumerate(listed)),
            ),
            "deliveries": Table((("supplier_id", "INTEGER"), ("days_late", "INTEGER")), tuple(rows)),
        },
        wanted={"latest.txt": {"lines": [firms[0]], "ordered": True}},
        answer={"text": firms[0]},
        solution=(
            query(sql, "The average of what is not NULL.", name=r"name,late\n(\w+),"),
            write("latest.txt", "{{name}}\n"),
        ),
        said="Over what has come:\n\nAnswer: {{name}}",
        foolish=(write("latest.txt", f"{firms[1]}\n", "NULL counts as zero."),),
        nonsense=f"Answer: {firms[1]}",
    )


def org_chart(rng: Random) -> Task:
    """How many people work below somebody, at any depth."""
    names = people(rng, 20)
    above: list[int | None] = [None, 1, 1, 2, 2, *(rng.randint(2, number - 1) for number in range(6, 21))]
    asked = 2
    above[19] = 4  # so that somebody is further down
    count, direct = len(_below(above, asked)), sum(boss == asked for boss in above)
    order = list(range(1, 21))
    rng.shuffle(order)  # so that numbers tell nothing of the order
    number_of = dict(zip(range(1, 21), order, strict=True))
    rows = sorted((number_of[at], names[at - 1], number_of[boss] if boss else None) for at, boss in enumerate(above, 1))
    sql = (
        f"WITH RECURSIVE below(id) AS (SELECT e.id FROM employees e JOIN employees b ON e.boss_id = b.id "
        f"WHERE b.name = '{names[asked - 1]}' UNION SELECT e.id FROM employees e JOIN below ON e.boss_id = below.id) "
        "SELECT COUNT(*) AS people FROM below"
    )
    return Task(
        level=3,
        prompt=f"How many people in the database work below {names[asked - 1]}, directly or at any depth?",
        files={"readme.txt": "boss_id is the id of the one above; NULL at the very top.\n"},
        database="people.db",
        tables={
            "employees": Table((("id", "INTEGER PRIMARY KEY"), ("name", "TEXT"), ("boss_id", "INTEGER")), tuple(rows))
        },
        answer={"number": str(count)},
        solution=(query(sql, "All that are below, and those below them.", count=r"people\n(\d+)\n"),),
        said="Directly and further down:\n\nAnswer: {{count}}",
        foolish=(),
        nonsense=f"Answer: {direct}",
    )


def _below(above: list[int | None], asked: int) -> set[int]:
    """Those below somebody; each has a larger number than the one above."""
    found: set[int] = set()
    for number, boss in enumerate(above, 1):
        if boss == asked or boss in found:
            found.add(number)
    return found
