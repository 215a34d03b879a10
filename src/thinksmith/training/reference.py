"""The model that training began from, for the KL penalty: of it log-probabilities alone are asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from thinksmith.policy.adapter import reference as adapter_off
from thinksmith.policy.policy import Policy

Reference = Callable[[], AbstractContextManager[Policy]]
"""Gives, for as long as the context lasts, a policy that computes what the reference does."""


def reference_of(policy: Policy) -> Reference:
    """With an adapter the same weights with the adapter off; else a frozen copy of the weights as they are now."""
    if policy.adapter:
        return _without_adapter(policy)
    return _copy(policy)


def _without_adapter(policy: Policy) -> Reference:
    @contextmanager
    def switched() -> Iterator[Policy]:
        with adapter_off(policy):
            yield policy

    return switched


def _copy(policy: Policy) -> Reference:
    frozen = Policy(copy.deepcopy(policy.model).requires_grad_(False).eval(), policy.tokenizer, policy.name)

    @contextmanager
    def copied() -> Iterator[Policy]:
        yield frozen

    return copied
