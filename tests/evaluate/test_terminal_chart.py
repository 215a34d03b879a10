"""Charts as text: nothing is wider than asked, every point is where its numbers say, plain ASCII where it is asked."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from thinksmith.evaluate.terminal_chart import MARKS, PLAIN_MARKS, Line, chart

value = st.floats(1e-6, 1e15)
share = st.floats(0, 1)
points = st.lists(st.tuples(value, share), max_size=6).map(tuple)
lines = st.lists(st.builds(Line, st.text("ab@:=", max_size=90), points, st.booleans()), min_size=1, max_size=9)
lines = lines.filter(lambda found: any(line.points for line in found))


def plot(rows, height, marks):
    """The cells of the plot that hold a marker, as (column, row from above)."""
    body = [row.plain for row in rows[: height - 2]]
    start = max(body, key=len).index("┤" if any("┤" in row for row in body) else "+") + 1
    return [(column, at) for at, row in enumerate(body) for column, cell in enumerate(row[start:]) if cell in marks]


@settings(max_examples=150, deadline=None)
@example([Line("a", ((1.0, 1e-45),))], 30, 6, False, False)
@given(lines=lines, width=st.integers(30, 120), height=st.integers(6, 30), unicode=st.booleans(), log_x=st.booleans())
def test_a_chart_keeps_to_its_room(lines, width, height, unicode, log_x):
    rows = chart(lines, width=width, height=height, unicode=unicode, log_x=log_x, x_name="tokens")
    assert all(cell_len(row.plain) <= width for row in rows)
    assert len(rows) >= height
    if not unicode:
        assert all(row.plain.isascii() for row in rows)


def test_equal_ratios_are_equal_distances():
    rows = chart([Line("a", ((1, 0.0), (10, 0.5), (100, 1.0)))], width=60, height=20)
    (x1, y1), (x2, y2), (x3, y3) = sorted(plot(rows, 20, MARKS))
    assert abs((x2 - x1) - (x3 - x2)) <= 1
    assert abs((y1 - y2) - (y2 - y3)) <= 1
    assert y3 < y2 < y1  # more is higher


def test_a_line_is_drawn_between_its_points_and_not_where_it_is_not_joined():
    points = ((1, 0.0), (100, 1.0))
    joined = "".join(row.plain for row in chart([Line("a", points)], width=60, height=20))
    alone = "".join(row.plain for row in chart([Line("a", points, joined=False)], width=60, height=20))
    dots = [sum(0x2800 < ord(sign) <= 0x28FF for sign in text) for text in (joined, alone)]
    assert dots[0] >= 18
    assert dots[1] == 0


@pytest.mark.parametrize("unicode", [True, False])
def test_every_curve_has_a_mark_of_its_own(unicode):
    several = [Line(f"line {at}", ((10 ** (at + 1), at / 5),)) for at in range(5)]
    text = "\n".join(row.plain for row in chart(several, unicode=unicode))
    for at in range(5):
        mark = (MARKS if unicode else PLAIN_MARKS)[at]
        assert f"{mark} line {at}" in text  # the legend
        assert text.count(mark) >= 2  # and the plot


def test_the_axes_have_numbers():
    text = "\n".join(row.plain for row in chart([Line("a", ((90, 0.5), (2100, 0.9)))], x_name="tokens a problem"))
    for part in ("60%", "80%", "100", "1k", "2k", "tokens a problem"):
        assert part in text


def test_what_is_no_number_is_left_out():
    points = ((math.nan, 0.5), (10, math.inf), (0, 0.5), (-3, 0.5), (10, 0.5))
    assert len(plot(chart([Line("a", points)], height=10), 10, MARKS)) == 1
    with pytest.raises(ValueError, match="no point"):
        chart([Line("a", points[:4])])
    with pytest.raises(ValueError, match="30 x 6"):
        chart([Line("a", points)], width=20)
