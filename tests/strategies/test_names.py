"""Strategies by name: what is written comes back, and each mistake is one line that says what to change."""

from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.records import Sampling
from thinksmith.strategies.names import STRATEGIES, _factory, strategy


def own(
    sampling: Sampling,
    *,
    n: int = 3,
    rate: float | None = None,
    kind: Literal["a", "b"] | None = None,
    flag: bool = False,
    name: str = "",
    sample: int = 0,
):
    """A strategy of a user's."""
    return n, rate, kind, flag, name, sample


def needy(sampling: Sampling, *, model: str, sample: int = 0):
    return model


HERE = f"{__name__}:own"


@pytest.mark.parametrize(
    ("written", "spec", "options"),
    [
        ("single", "single", {}),
        ("vote", "vote", {}),
        ("vote@4", "vote@4", {"n": 4}),
        ("vote@8", "vote", {"n": 8}),  # the default is left out
        ("vote:n=4", "vote@4", {"n": 4}),
        ("budget=512", "budget=512", {"most": 512}),
        ("budget=512:least=10", "budget=512:least=10", {"most": 512, "least": 10}),
        ("budget:waits=2,wait=Hmm", "budget:wait=Hmm,waits=2", {"waits": 2, "wait": "Hmm"}),
        (
            "adaptive:threshold=0.80, most=32",
            "adaptive:most=32,threshold=0.8",
            {"threshold": 0.8, "most": 32},
        ),
        (
            "best_of@4:by=audit,weighted=yes",
            "best_of@4:by=audit,weighted=True",
            {"n": 4, "by": "audit", "weighted": True},
        ),
        (
            "best_of:by=judge,model=vllm/some/model@http://127.0.0.1:8000",
            "best_of:by=judge,model=vllm/some/model@http://127.0.0.1:8000",
            {"by": "judge", "model": "vllm/some/model@http://127.0.0.1:8000"},
        ),
        (HERE, HERE, {}),
        (f"{HERE}@5:flag=true,kind=b", f"{HERE}@5:flag=True,kind=b", {"n": 5, "flag": True, "kind": "b"}),
        (f"{HERE}:rate=0.5", f"{HERE}:rate=0.5", {"rate": 0.5}),
    ],
)
def test_what_is_written_is_understood_and_its_spec_says_the_same(written, spec, options):
    named = strategy(written)
    assert (named.spec, named.options) == (spec, options)
    again = strategy(named.spec)
    assert again.spec == spec
    assert {**again.options} == {key: value for key, value in options.items() if (key, value) != ("n", 8)}


@given(n=st.integers(1, 99), rate=st.floats(0, 9), flag=st.booleans(), kind=st.sampled_from("ab"))
def test_every_value_survives_its_spec(n, rate, flag, kind):
    named = strategy(f"{HERE}@{n}:rate={rate!r},flag={flag},kind={kind}")
    for each in (named, strategy(named.spec)):
        assert each.make(Sampling(), 7, None) == (n, rate, kind, flag, "", 7)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("vot@8", r"no strategy 'vot'; did you mean 'vote'"),
        ("Vote@8", r"no strategy 'Vote'; did you mean 'vote'"),
        ("frobnicate", r"known: single, budget, vote"),
        ("", r"write a name, such as vote@8"),
        ("vote@8@9", r"write a name, such as vote@8"),
        ("vote@", r"vote: n= is no whole number"),
        ("vote@eight", r"vote: n=eight is no whole number"),
        ("vote@8.5", r"vote: n=8.5 is no whole number"),
        ("vote@0", r"n=0 must be 1 or more"),
        ("vote@-1", r"n=-1 must be 1 or more"),
        ("vote=8", r"vote takes no value behind ="),
        ("vote:weight", r"options are written key=value"),
        ("vote:weight=", r"options are written key=value"),
        ("vote:wieght=count", r"vote has no option 'wieght'; did you mean 'weight'"),
        ("vote@4:n=4", r"gives n twice"),
        ("vote:sample=3", r"vote has no option 'sample'"),
        ("vote:open=x", r"vote has no option 'open'"),
        ("budget", r"budget needs a bound"),
        ("budget:512", r"options are written key=value"),
        ("budget=-5", r"must be 0 or more"),
        ("budget=10:least=20", r"at least 20 and at most 10"),
        ("budget:waits=1,least=5", r"least or waits, not both"),
        ("best_of:weighted=maybe", r"weighted=maybe is no yes or no"),
        ("best_of:by=verifer", r"by=verifer is no scorer; did you mean 'verifier'"),
        ("best_of:by=judge", r"by=judge needs the model that judges: add model="),
        ("best_of:by=reward", r"needs the reward model's folder: add model="),
        ("best_of:by=recorded", r"needs the file with the scores: add file="),
        ("best_of:by=audit,model=x", r"takes no model: leave model=x out"),
        ("vote:weight=cuont", r"weight=cuont is no scorer; did you mean 'count'"),
        ("adaptive:rule=alpha", r"rule=alpha is none of beta, window"),
        ("adaptive:threshold=95", r"a probability from 0.5 to 1"),
        ("adaptive:threshold=nan", r"a probability from 0.5 to 1"),
        ("adaptive:window=1", r"window=1 must be 2 or more"),
        ("adaptive:most=0", r"most=0 must be 1 or more"),
        ("confident:keep=0", r"keep and consensus are shares"),
        ("confident@4:first=5", r"first=5 is how many of the n=4"),
        ("confident:first=4,by=tail", r"leave by out, or first"),
        ("no_such_module:factory", r"cannot|can be imported"),
        ("no_such_module:factory", r"PYTHONPATH"),
        (f"{__name__}:needy", r"needs model: write"),
        (f"{HERE}:kind=c", r"kind=c is none of a, b"),
        (f"{HERE}:rate=fast", r"rate=fast is no number"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_change(written, told):
    with pytest.raises(UserError, match=told) as error:
        strategy(written)
    assert "\n" not in str(error.value)


@given(st.text(alphabet="vote@=:,. budget0123_αß\n", max_size=20))
def test_no_text_breaks_it(text):
    with suppress(UserError):  # anything else escapes and fails
        strategy(text)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "single"])
def test_every_strategy_tells_its_source_cost_and_when_it_helps(name):
    """The promise of the documents: what a strategy costs and when it helps stands with it."""
    text = " ".join((_factory(name)[0].__doc__ or "").split())
    assert "Cost:" in text
    assert "elps" in text
