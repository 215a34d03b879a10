"""Scripts and languages: told where they can be, and left open where they cannot."""

from __future__ import annotations

import pytest

from thinksmith.audit.language import LANGUAGES, is_foreign, latin_language, script_of_text, script_share
from thinksmith.problems.wording import Wording

TEXTS = {
    "en": "We have to find the sum of these numbers, so let us add them and see what it is that we get.",
    "de": "Wir müssen die Summe der Zahlen finden, also addieren wir sie und sehen, was das ist. Es ist nicht schwer.",
    "fr": "Nous devons trouver la somme de ces nombres, donc on les ajoute et on voit ce que cela donne dans le cas.",
    "es": "Tenemos que encontrar la suma de los números, entonces los sumamos y vemos lo que es para este caso.",
    "it": "Dobbiamo trovare la somma dei numeri, quindi li sommiamo e vediamo che cosa è per il caso di questo.",
    "pt": "Temos que encontrar a soma dos números, então não é mais que somar e ver o que isso é para o caso.",
    "nl": "We moeten de som van de getallen vinden, dus we tellen het op en zien wat het is, en dan zijn we er.",
    "zh": "我们需要计算这个数字的和，其中 $x + y = 7$，然后再检查一遍结果。",
    "ru": "Нам нужно найти сумму чисел, поэтому сложим их и посмотрим, что получится при $x = 7$.",
    "ja": "この数の合計を求める必要がありますので、それらを足してみましょう。",
    "ko": "이 숫자들의 합을 구해야 하므로 더해 보겠습니다.",
}


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_each_text_is_of_its_own_language_and_of_no_other(language: str) -> None:
    words = Wording.of(TEXTS[language]).words
    assert is_foreign(TEXTS[language], words, language, 0.9) == ""
    others = [other for other in TEXTS if other != language and not is_foreign(TEXTS[language], words, other, 0.9)]
    assert others == (["ja", "ko"] if language == "zh" else [])  # both may be written in Chinese letters alone


def test_formulas_and_no_letters_say_nothing() -> None:
    assert script_of_text("12 * 7 = ?", 0.9) == ""
    assert script_of_text("设 $\\sin x = \\frac{a}{b}$，求 a 的值", 0.9) == "han"
    assert script_of_text("Let α be 3 和 then 这个 mixed 数字 文本 混合", 0.9) == ""
    assert script_share("12 + 7", "latin") == 1
    assert latin_language(["x", "y", "z"]) == ""


def test_every_language_is_of_a_known_script() -> None:
    text = "한국어로 쓴 글입니다"
    assert [language for language in LANGUAGES if not is_foreign(text, (), language, 0.9)] == ["ko"]
