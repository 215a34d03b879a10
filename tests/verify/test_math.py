r"""Kind `math`: what is the same by algebra, what is not, and what no answer may cost."""

from __future__ import annotations

import contextlib
import time

import pytest

from thinksmith.records import Problem, Trace
from thinksmith.verify import verify, workers
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.math import judge, same_maths
from thinksmith.verify.workers import Exceeded


def is_right(gold: str, answer: str) -> bool:
    """The verdict of `judge`; beyond its bounds is wrong."""
    try:
        return judge(Problem("p", "?", gold, "math"), answer) is None
    except Unreadable:
        return False


SAME = [
    (r"2\sqrt{2}", r"\sqrt{8}"),
    ("x^2-1", "(x-1)(x+1)"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
    ("(-1,2)", "-1<x<2"),
    ("(-1,2]", r"x \in (-1, 2]"),
    ("x>3", r"(3,\infty)"),
    (r"[2,\infty)", r"x \ge 2"),
    (r"x<-1 \text{ or } x>2", r"(-\infty,-1)\cup(2,\infty)"),
    (r"\{1,2\}", r"\{2,1\}"),
    (r"\{1,2\}", "1, 2"),
    ("1", r"\{1\}"),
    (r"\emptyset", r"\varnothing"),
    (r"\{\}", r"\emptyset"),
    (r"\emptyset", r"\{\}"),
    ("Monday", r"\text{Monday}"),
    (r"\text{even}", "even"),
    ("x=3", "3"),
    ("3", "x=3"),
    ("y=2x+3", "2x+3"),
    ("y=2x+3", "2x-y+3=0"),
    ("x^2+y^2=1", "y^2+x^2-1=0"),
    ("2x+3y=6", "4x+6y=12"),
    ("7!", "5040"),
    (r"\binom{10}{3}", "120"),
    ("2^{10}", "1024"),
    (r"2\sqrt{3}\text{ cm}", r"2\sqrt{3}"),
    (r"5\pi", r"5\pi \text{ square units}"),
    (r"5\pi", r"5\pi\ \mathrm{cm}^2"),
    (r"\frac{5\pi}{3}", r"\frac{5}{3}\pi"),
    ("6-5i", "-5i+6"),
    ("3+4i", "4i + 3"),
    (r"\frac{1}{3}", r"0.\overline{3}"),
    (r"0.1\overline{6}", r"\frac16"),
    (r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}"),
    (r"\frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt{5}}{2}, \frac{-1-\sqrt{5}}{2}"),
    (r"\ln 2", r"\log_e 2"),
    ("x=2, y=3", "y=3, x=2"),
    ("(x,y)=(2,3)", "(2,3)"),
    ("(2,3)", r"\langle 2,3\rangle"),
    (r"2\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\4\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    (r"\frac{1}{5}\begin{pmatrix}x\\ \sqrt{8}\end{pmatrix}", r"\begin{pmatrix}x/5\\ \frac{2\sqrt{2}}{5}\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]"),
    ("52_8", "52_{8}"),
    ("52_8", "(52)_8"),
    ("52_8", r"52_{\text{eight}}"),
    (r"\infty", r"+\infty"),
    (r"[0,\infty)", r"[0,+\infty)"),
    ("A", r"\text{(A)}"),
    (r"\frac{\pi}{3}", r"\frac{\pi}{3}\text{ radians}"),
    ("x^{10}+1", "x^10+1"),
    (r"2\sqrt2", "2*sqrt(2)"),
    (r"\frac{\pi}{2}", "pi/2"),
    (r"V=\pi r^2=9\pi", r"9\pi"),
    (r"9\pi", r"V = \pi r^2 = 9\pi"),
    (r"2\sqrt{2}", r"2\sqrt{2} \approx 2.83"),
    ("10", r"10\%"),
    (r"\$5", r"5 \text{ dollars}"),
    (r"1\frac{1}{2}", "1.5"),
    (r"\mathbb{R}\setminus\{2\}", r"(-\infty,2)\cup(2,\infty)"),
    (r"x \neq 2", r"(-\infty,2)\cup(2,\infty)"),
    (r"\frac{x+2}{7}", r"\frac{x}{7}+\frac{2}{7}"),
    (r"\sqrt{x^3}", r"x\sqrt{x}"),
    ("|x-1|", "|1-x|"),
    (r"\sin 2x", r"2\sin x\cos x"),
    (r"\tan x", r"\frac{\sin x}{\cos x}"),
    ("e^{2x}", "(e^x)^2"),
    (r"\frac{a}{b}+c", r"\frac{a+bc}{b}"),
    (r"\text{red and blue}", r"\text{red and blue}"),
    (r"\sqrt[3]{-2}", r"-\sqrt[3]{2}"),
    ("3x^2y", "3yx^2"),
    (r"-\frac{1}{2}x+3", r"3-\frac{x}{2}"),
    (r"\{(1,2),(3,4)\}", "(3,4),(1,2)"),
    (r"\left(\frac{1}{2},\sqrt{8}\right)", r"(0.5,2\sqrt{2})"),
    (r"90^\circ", "90"),
    (r"x\geq 2\text{ and }x<5", r"x\geq 2 , x<5"),
    (r"\frac{3}{2}\pi", r"1.5\pi"),
    ("k(k+1)", "k^2+k"),
    ("10{,}000x", "10000x"),
    (r"\frac{1}{2}(e^x-e^{-x})", r"\sinh x"),
    ("p - q", "-q+p"),
    (r"\dfrac{9}{256}x", r"\frac{9x}{256}"),
    ("n=6k+1", "6k+1"),
    (r"5\text{th}", "5"),
    (r"\cot x", r"\frac{1}{\tan x}"),
    ("7x-2y", "- 2y + 7x"),
    (r"\frac{2}{\sqrt{3}-1}", r"\sqrt{3}+1"),
    (r"x\in[-2,7]", r"-2\le x\le 7"),
    ("{1,2,3}", r"\{3,1,2\}"),
    (r"2,3,\text{ and }4", "4,3,2"),
    (r"\{x \mid x > 3\}", r"(3,\infty)"),
    ("f(x)=x^2+1", "x^2+1"),
    (r"\frac{1}{8}\left(2 \sqrt{3}\right)", r"\frac{\sqrt3}{4}"),
    ("4(x-1)^2", "4x^2-8x+4"),
    (r"2\pi r", r"2r\pi"),
    (r"\frac{\sqrt{a^2+b^2}}{c}", r"\frac{1}{c}\sqrt{b^2+a^2}"),
    ("5!", "120"),
    ("15+27", "42"),
    (r"\sin 60^\circ", r"\frac{\sqrt{3}}{2}"),
    ("AB", "AB"),
    ("No", "no"),
    (r"AB = 2\sqrt{3}", r"\sqrt{12}"),
    (r"\angle ABC = \frac{\pi}{3}", r"\frac{2\pi}{6}"),
    ("y = x^2", "f(x) = x^2"),
    (r"\frac{n(n-1)}{2}", r"\binom{n}{2}"),
    ("(-1)^{n+2}", "(-1)^n"),
    ("7:2", "14:4"),
    (r"\sqrt{13}", "√13"),
    (r"\sqrt{13}", "sqrt13"),
    (r"\sqrt{13}", "sqrt 13"),
    (r"1+\sqrt{13}", "1+√13"),
    (r"\frac{\sqrt{13}}{2}", "√13/2"),
    (r"\sqrt{xy}", "√(xy)"),
    (r"2\sqrt{13}", "2√(13)"),
    (r"2\sqrt{2}", "2√2"),
    (r"\sqrt{1-x^2}", r"\sqrt{(1-x)(1+x)}"),
    (r"\sqrt{x^2}", "|x|"),
    (r"\sqrt{1+\sqrt{x}}", r"\sqrt{\sqrt{x}+1}"),
    (r"\ln(1+e^x)", r"x+\ln(1+e^{-x})"),
    (r"\arctan\frac{x}{2}", r"\tan^{-1}\left(0.5x\right)"),
    ("y=|x|", "|x|-y=0"),
    ("2y=|x|", "y=|x|/2"),
    ("7:30", "7{:}30"),
    ("7:30 a.m.", "7:30 AM"),
    ("6:00 a.m.", r"6:00\text{ a.m.}"),
    ("7:30 a.m.", "7:30"),
    ("7:30", "07:30"),
    ("3:4", "12:16"),
    ("3:10", "3/10"),
    ("5", r"\text{Area} = 5"),
    (r"\sqrt5", r"\text{sum of lengths} = \sqrt5"),
    ("500000", "5 hundred thousand"),
    (r"2\sqrt3", r"2\sqrt3\text{ square feet}"),
    (r"2\sqrt3", r"2\sqrt{3}\,\text{ft}^2."),
    ("(1,2)", r"\vec{v}=(1,2)"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\vec{v}=\begin{pmatrix}1\\2\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\mathbf{v}=\begin{pmatrix}1\\[4pt]2\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\cr3&4\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\left(\begin{smallmatrix}1\\2\end{smallmatrix}\right)"),
    ("5", r"5\,"),
    ("5", r"\;5\;"),
    ("5", "5\\ "),
    (r"2\sqrt2", r"2\sqrt2\,"),
    (r"\frac{\pi}{2}", r"\frac\pi2"),
    (r"\frac{\pi}{3}", r"\frac\pi{3}"),
    (r"\frac{x}{3}", r"\frac x3"),
    (r"\frac{a}{b}", r"\frac ab"),
    (r"\frac{1}{x}", r"\frac1x"),
    (r"\frac{1}{e}", r"\frac1e"),
    (r"\frac{\sqrt{3}}{x}", r"\frac{\sqrt3}x"),
    (r"\binom{n}{2}", r"\binom n2"),
    ("100, 200", "100,200"),
    (r"\{100,200\}", "100,200"),
    ("1, 100", "1,100"),
    ("1000, 2000", "1,000, 2,000"),
    ("1234567", r"1\,234\,567"),
    ("10080", r"10\,080"),
    (r"\frac{x-3}{2}", r"f^{-1}(x) = \frac{x-3}{2}"),
    ("2x", r"\frac{dy}{dx} = 2x"),
    (r"\sqrt5", r"|z| = \sqrt5"),
    (r"\frac35", r"\cos A = \frac35"),
    (r"\frac{\sqrt3}{5}", r"\cos A = \frac{\sqrt3}5"),
    ("5", r"\overline{AB}=5"),
    ("60", r"\angle A = 60^\circ"),
    ("y_0 + 2x", "y = y_0 + 2x"),
    (r"\sqrt2", r"\sqrt2~\text{m}"),
    (r"\sqrt2", r"\color{blue}{\sqrt2}"),
    ("2516_8", "2516_{(8)}"),
    (r"(-\infty,3]", r"\{x\in\mathbb R\mid x\le 3\}"),
    (r"\log_{10} 2", r"\lg 2"),
]
"""(gold answer, answer)."""

OTHER = [
    (r"\{1,2\}", r"\{1\}"),
    (r"\{1,2\}", "1"),
    ("1", r"\{1,2\}"),
    ("(1,2)", "1,2"),
    ("(1,2)", r"\{1,2\}"),
    ("(1,2)", "[1,2)"),
    ("x=3", "y=3"),
    ("x+1=0", "x+2=0"),
    ("x^2+1=0", "x^2+2=0"),
    ("x^2+y^2=1", "1"),
    ("1", "x^2+y^2=1"),
    ("even", "neve"),
    (r"\text{even}", "2k"),
    ("even", "e v e n"),
    ("Monday", "Tuesday"),
    (r"\frac{1}{3}", "0.3333333"),
    (r"\sqrt{2}", "1.41421356"),
    ("2^{-100}", "3^{-100}"),
    ("10^{-20}", "0"),
    ("52_8", "52"),
    ("52_8", "42"),
    ("52", "52_8"),
    ("5", "5!"),
    ("x<3", "x>3"),
    ("x<3", r"x\le 3"),
    ("(-1,2)", r"-1<x\leq 2"),
    ("x>3", "y>3"),
    ("y=2x+3", "y=2x-3"),
    ("2x+3y=6", "2x+3y=7"),
    ("2c", "2"),
    ("2", "2c"),
    ("3h", "3"),
    ("f(x)", "f(y)"),
    ("x'", "x"),
    ("y'+1", "y+1"),
    ("x", "X"),
    (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    (r"2\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\5\end{pmatrix}"),
    (r"2\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2&4\end{pmatrix}"),
    ("x=1,y=2", "2,1"),
    ("x=1,y=2", "x=2,y=1"),
    (r"\sqrt{x^2}", "x"),
    (r"1,2,\ldots", "1,2"),
    ("1,2", r"1,2,\ldots"),
    (r"10\%", r"0.1\%"),
    ("3 or 4", "3"),
    (r"\infty", r"-\infty"),
    ("6-5i", "6+5i"),
    (r"\mathbb{R}", r"\mathbb{Z}"),
    (r"\mathbb{R}\setminus\{2\}", r"\mathbb{R}\setminus\{3\}"),
    ("x^2", "2x"),
    ("|x|", "x"),
    (r"\lfloor x\rfloor", "x"),
    ("ab", "ba"),
    (r"1\pm\sqrt2", r"1+\sqrt2"),
    (r"\frac{1}{2x}", r"\frac{x}{2}"),
    ("A", "B"),
    ("(A)", "a"),
    ("x^{9^{9^{9}}}", "x"),
    ("9^{9^{9}}", "9^{9^{8}}"),
    ("12", r"\text{twelve}"),
    ("2x+3", "5"),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5}"),
    (r"x \equiv 3 \pmod{5}", r"x \equiv 2 \pmod{5}"),
    (r"\overline{AB}", "AB"),
    (r"\{x \mid x > 3\}", r"(4,\infty)"),
    (r"\text{no solution}", r"\text{one solution}"),
    (r"p\lor q", r"p \land q"),
    (r"3\text{ squared}\sqrt2", r"3\sqrt2"),
    (r"\frac{\pi}{2}\text{ million}", r"\frac{\pi}{2}"),
    ("x_1+1", "x_2+1"),
    ("e^{10}", "22026.4657948067"),
    (r"\pi", "3.14159265358979"),
    (r"\pi", r"\frac{22}{7}"),
    ("2^{1000001}", "2^{1000000}"),
    (r"\max(x,-1000)", "x"),
    ("0.1", "0.10000000000000001"),
    ("x + 10^{-30}", "x"),
    (r"\sin x", r"\sin y"),
    ("2 3x", "23x"),
    ("AB", "ab"),
    ("15", "5!!"),
    (r"\frac{\pi}{2}", r"1\frac{1}{2}\pi"),
    (r"\frac{2x}{3}", "2/3x"),
    ("x^2 = 4", "x = 2"),
    (r"2\sqrt{2}", "2.83"),
    ("7:30", "7:45"),
    (r"\{1,2,2\}", r"\{1,2\}"),
    ("(3,-2)", "(-2,3)"),
    (r"\frac{dy}{dx}", "y"),
    ("x+67", r"\sqrt{x^2}+67"),
    ("x+3", r"\sqrt{x^2}+3"),
    ("xy+1", r"\sqrt{x^2y^2}+1"),
    ("x+50", r"\sqrt{(x+50)^2}"),
    ("x+10^{12}", r"\sqrt{(x+10^{12})^2}"),
    ("x+y+10^{9}", r"\sqrt{(x+y+10^{9})^2}"),
    ("x+10^{9}", r"e^{\frac{1}{2}\ln((x+10^{9})^2)}"),
    ("x+10^{9}", "|x+10^{9}|"),
    (r"\frac{x}{10^9}", r"\arctan(\tan\frac{x}{10^9})"),
    (r"\frac{\pi}{2}-\arctan(x+10^9)", r"\arctan\frac{1}{x+10^9}"),
    ("13y=x", "13y=|x|"),
    ("2y=x", r"2y=\max(x,-1000)"),
    ("2y=x+10^7", "2y=|x+10^7|"),
    (r"3\sqrt2", "√23"),
    (r"3\sqrt2", "sqrt23"),
    (r"2\sqrt5", "√52"),
    ("6:00", "12:00"),
    ("1:00", "2:00"),
    ("12:30", "24:60"),
    ("8:20", "16:40"),
    ("7:30 a.m.", "7:30 p.m."),
    (r"\frac{1}{0}", r"\frac{2}{0}"),
    ("xy=6", "6"),
    ("xy=6", "x=6"),
    ("xy=6", "ab=6"),
    ("xy=0", "x=0"),
    ("xy=2x+1", "2x+1"),
    ("2x+3", "x=2x+3"),
    ("abcd=24", "24"),
    ("f^{-1}(x)=2x", "f(x)=2x"),
    ("x^2", r"x^2\text{ is wrong}"),
    ("(1,2)", r"(1,2)\text{ complement}"),
    (r"2\sqrt3", r"2\sqrt3\text{ dozen}"),
    (r"2\sqrt3", r"2\sqrt3\text{ negative}"),
    (r"2\sqrt3", r"2\sqrt3\text{ divided by two}"),
    (r"2\sqrt3", r"2\sqrt3\text{x}"),
    ("x^2", r"x^2+\sin(499\pi x)"),
    ("x^2", r"x^2+\sin(2^{180}\pi x)"),
    ("1,2", "1,2,..."),
    ("100200", "100, 200"),
]
"""Wrong in both directions."""

LEFT_TO_COMPUTE = [
    ("0", "x-x"),
    ("10", r"\binom{5}{2}"),
    ("1024", "2^{10}"),
    ("120", "5!"),
    ("15", r"\sum_{k=1}^5 k"),
    ("42", "15+27"),
    (r"\frac12", r"\int_0^1 x dx"),
    (r"\frac{1}{2}", r"\sin 30^\circ"),
    (r"\frac{\sqrt3}{2}", r"\sin 60^\circ"),
]
"""(gold answer, answer): the same value, but the answer leaves to be done what the gold answer has done."""


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_the_same(gold, answer):
    assert is_right(gold, answer)


@pytest.mark.parametrize(("gold", "answer"), OTHER)
def test_another(gold, answer):
    assert not is_right(gold, answer)
    assert not is_right(answer, gold)


@pytest.mark.parametrize(("gold", "answer"), LEFT_TO_COMPUTE)
def test_left_to_compute(gold, answer):
    assert not is_right(gold, answer)


def test_whole_numbers_count_only_where_the_gold_answer_has_no_other_values():
    assert is_right(r"(-1)^x", r"(-1)^x \cos(2\pi x)")
    assert not is_right("x^2", r"x^2 + (-1)^x \sin(\pi x)")


def test_reasons_say_what_is_wrong():
    def reason(gold: str, answer: str) -> str | None:
        return judge(Problem("p", "?", gold, "math"), answer)

    assert reason("7", "8") == "a different number"
    assert reason("(1, 2)", "(1, 3)") == "part 2: a different number"
    assert reason(r"\{1, 2\}", r"\{1, 2, 3\}") == "3 parts, not 2"
    assert reason(r"\{1, 2\}", r"\{1, 3\}") == "nothing in it is 2"
    assert reason("[1, 2)", "(1, 2)") == "another kind of answer: a tuple or an interval"
    assert reason("x = 3", "y = 3") == "y is another variable than x"
    assert reason("52_8", "52") == "a different numeral; the base is part of it"
    assert reason("42", "15 + 27") == "not a plain number, which the expected answer is"
    assert reason(r"\frac{\sqrt{3}}{2}", r"\sin 60^\circ") == "left to compute: trigonometry"
    assert reason(r"2\sqrt{2}", "2.83") == "a different value"
    assert reason("x + 1", "x - 1") == "a different expression"
    assert reason("x + y < 3", "x + y - 3 > 0") == "the other way round"
    assert reason(r"\text{Monday}", "Tuesday") == "a different text"


def test_gold_that_cannot_be_used():
    for gold in ("", " ", "9" * 5_000):
        with pytest.raises(BadGold):
            judge(Problem("p", "?", gold, "math"), "1")


def test_same_maths_needs_no_worker(monkeypatch):
    monkeypatch.setattr(workers, "call", None)
    assert same_maths(r"\left(\frac12, 3\right)", "(0.5, 3)")
    assert not same_maths(r"2\sqrt{2}", r"\sqrt{8}")  # true, but not certain without algebra
    assert not same_maths("1", "2")


EXPLOITS = [
    "__import__('os').system('touch {path}')",
    r"\text{{__import__('os').system('touch {path}')}}",
    r"f(__import__(\text{{'os'}}).system('touch {path}'))",
    "open('{path}','w')",
    "exec(\"open('{path}','w')\") + x",
    "().__class__.__base__.__subclasses__()",
    "x.__class__.__init__.__globals__['os'].system('touch {path}')",
    "x_{{__import__('os').system('touch {path}')}}",
    r"\operatorname{{__import__('os').system}}(x)",
    "lambda: open('{path}','w')",
    "`touch {path}`",
    "$(touch {path})",
    "9**9**9",
    "9^{{9^{{9}}}}",
    "5^(5^(5^(5^(5^5))))",
    "x^{{9^{{9^{{9}}}}}}",
    "2^{{2^{{2^{{2^{{2^{{x}}}}}}}}}}",
    "10^{{10^{{10}}}} + x",
    "e^{{e^{{e^{{e^{{e^{{e}}}}}}}}}}",
    "1000000!",
    "((((9!)!)!)!)!",
    r"\binom{{10^9}}{{5^9}} x",
    r"\binom{{999999999}}{{444444444}} x",
    r"\sqrt[9^{{9^{{9}}}}]{{x}}",
    r"\gcd(10^{{5000}}!, 7^{{9999}}) x",
    "(x+y+z+w)^{{4999}}",
    r"\sum_{{k=1}}^{{10^{{12}}}} \frac{{x}}{{k}}",
    r"\prod_{{k=1}}^{{10^{{9}}}} k x",
    r"\int_0^1 \sin(\sin(\sin x)) dx",
    r"\det\begin{{pmatrix}}a&b\\c&d\end{{pmatrix}}^{{9999}}",
    "1e999999999 x",
    "１２３x",
    "х+1",  # Cyrillic
    "x\x00+1",
    "\x00",
    "\u202e1+x",
    "\ud800x",
    "|" * 300 + "x",
    "(" * 19 + "x" + ")" * 19,
    "{{" * 300 + "x" + "}}" * 300,
    r"\frac{{" * 200,
    r"\sqrt{{" * 15 + "x" + "}}" * 15,
    "-" * 400 + "x",
    "x" * 700,
    "x+" * 300 + "x",
    "x^" * 200 + "x",
    "!" * 500,
    "5" + "!" * 6 + "x",
    "9" * 700 + "x",
    "9" * 1_000_000,
    "(" * 100_000,
    "x<" * 1_900 + "x",
    "x'" * 300,
]


@pytest.mark.parametrize("exploit", EXPLOITS, ids=lambda text: ascii(text[:24]))
@pytest.mark.parametrize("gold", ["x + 1", r"2\sqrt{2}", r"\{1, x\}"])
def test_exploits_run_nothing_and_are_not_right(gold, exploit, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "DEADLINE", 1.0)
    path = tmp_path / "owned"
    answer = exploit.format(path=path) if "{" in exploit else exploit
    begin = time.monotonic()
    verdict = verify(Problem("p", "?", gold, "math"), Trace("", f"\\boxed{{{answer}}}", "none"))
    assert time.monotonic() - begin < 3.0
    assert verdict.status in ("wrong", "timeout", "no_answer")
    assert not path.exists()


def test_the_right_answer_is_right_after_any_of_them(monkeypatch):
    monkeypatch.setattr(workers, "DEADLINE", 0.5)
    for count, exploit in enumerate(EXPLOITS[::2]):
        with contextlib.suppress(Exceeded):
            assert not is_right("x + y", exploit.replace("{{", "{").replace("}}", "}"))
        assert is_right(f"x + {count}", f"{count} + x")


def test_out_of_time_is_a_timeout(monkeypatch):
    monkeypatch.setattr(workers, "DEADLINE", 0.001)
    slow = Trace("", r"\boxed{(a+b+c+d)^{12} + \sin(a b c d)}", "none")
    assert verify(Problem("p", "?", r"(a+b)^{12} (c+d)", "math"), slow).status == "timeout"
