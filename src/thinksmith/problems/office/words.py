"""Names for the office: people, firms, things, hosts, days."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _names(
    "Ada Ben Carla Deniz Elif Finn Greta Hugo Ines Jonas Karim Lena Mateo Nora Oskar Pia Quentin Rosa Samir Tilda Umut "
    "Vera Wanda Xenia Yusuf Zoe"
)
LAST = _names(
    "Adler Brandt Castro Demir Egger Fischer Gruber Haas Ivanov Jensen Keller Lindner Moreau Novak Okafor Peters "
    "Quast Rossi Sauer Tanaka Ulrich Vogel Weber Yilmaz Zimmer"
)
FIRMS = _names(
    "Alpenrad Birkhof Cobalt Dornbusch Elbkontor Fjordline Gletscher Hafenwerk Isarblick Juniper Kranich Lindenau "
    "Morgenrot Nordlicht Ostwind Pfeffer Quarzit Rheingold Salzburg Tannhof"
)
THINGS = _names(
    "anchor basket candle drawer easel funnel gasket hammer inkwell jacket kettle ladder mirror needle orchid pencil "
    "quilt ribbon saddle teapot umbrella violin whistle zither"
)
DEPARTMENTS = ("sales", "support", "finance", "logistics", "design", "research")
HOSTS = ("web", "mail", "cache", "queue", "store", "proxy", "batch", "index")
TOWNS = _names("Aachen Bremen Chemnitz Dresden Erfurt Freiburg Goslar Halle Ilmenau Jena Kiel Lemgo Mainz Neuss")


def people(rng: Random, n: int) -> list[str]:
    """n names, no first and no last name twice."""
    return [f"{first} {last}" for first, last in zip(rng.sample(FIRST, n), rng.sample(LAST, n), strict=True)]


def days(rng: Random, n: int, year: int = 2026) -> list[date]:
    """n different days of a year, in order."""
    begin = date(year, 1, 1)
    return [begin + timedelta(days=day) for day in sorted(rng.sample(range(365), n))]


def code(rng: Random, digits: int = 4) -> int:
    """A number of so many digits."""
    return rng.randint(10 ** (digits - 1), 10**digits - 1)
