"""How each layer attends, and so what it remembers of a sequence: all of it, a window, or a state of fixed size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from thinksmith.errors import UserError
from thinksmith.fit.shapes.fields import FULL, LINEAR, SLIDING, Fields
from thinksmith.fit.shapes.parts import heads_of, linear_widths
from thinksmith.fit.shapes.shape import Cache

Rule = Callable[[Fields, int], str]  # how layer i attends where a config has no `layer_types`


def full(c: Fields, i: int) -> str:
    return FULL


def _if(condition: object) -> str:
    return SLIDING if condition else FULL


def always(c: Fields, i: int) -> str:
    """All layers, where the config has a window."""
    return _if(window_of(c))


def late(c: Fields, i: int) -> str:
    """Qwen: the last layers, if at all."""
    return _if(c.flag("use_sliding_window") and i >= c.whole("max_window_layers", least=0))


def early_odd(c: Fields, i: int) -> str:
    """Qwen2's mixtures: every other one of the first layers, if at all."""
    return _if(c.flag("use_sliding_window") and i % 2 == 0 and i < c.whole("max_window_layers", least=0))


def asked(c: Fields, i: int) -> str:
    """Qwen3's mixtures: all layers, if at all."""
    return _if(c.flag("use_sliding_window"))


def unplaced(c: Fields, i: int) -> str:
    """SmolLM3: the layers without positions."""
    placed = c.listed("no_rope_layers") or []
    has = placed[i] if i < len(placed) else (i + 1) % c.maybe("no_rope_layer_interval", 4)
    return _if(c.flag("use_sliding_window") and not has)


def every(many: int, name: str = "", other: str = SLIDING) -> Rule:
    """The last of so many layers is full; the config may give their number by this name."""
    return lambda c, i: other if (i + 1) % (c.maybe(name, many) if name else many) else FULL


def kinds_of(c: Fields, rule: Rule) -> list[str]:
    """How each layer attends. Raises UserError for a list of another length and for what is not known."""
    said, layers = c.listed("layer_types"), c.layers
    kinds = [rule(c, i) for i in range(layers)] if said is None else said
    if len(kinds) != layers:
        raise UserError(
            f"the config's layer_types names {len(kinds)} layers, its num_hidden_layers {layers}: make them agree"
        )
    if other := [kind for kind in kinds if kind not in (FULL, SLIDING, LINEAR)]:
        raise UserError(f"the config's layer_types has {str(other[0])[:40]!r}: known are {FULL}, {SLIDING}, {LINEAR}")
    return kinds


def window_of(c: Fields) -> int | None:
    """Tokens that a sliding layer sees. A window of 0 is none."""
    return (c.maybe("sliding_window", 0, least=0) or None) if c.flag("use_sliding_window", True) else None


def caches(c: Fields, rule: Rule, latent: bool) -> tuple[Cache, ...]:
    """What the layers remember of a sequence: one cache for each kind of layer."""
    kinds = kinds_of(c, rule)
    if latent:
        per_token = c.whole("kv_lora_rank") + c.whole("qk_rope_head_dim")
    else:
        h = heads_of(c)
        per_token = h.keys * (h.key_dim + h.value_dim)
    window = window_of(c) if SLIDING in kinds else None
    made = (
        Cache(_count(kinds, (FULL,) if window else (FULL, SLIDING)), per_token),
        Cache(_count(kinds, (SLIDING,) if window else ()), per_token, window),
        Cache(kinds.count(LINEAR), 0, fixed=linear_state(c) if LINEAR in kinds else 0),
    )
    return tuple(cache for cache in made if cache.layers)


def linear_state(c: Fields) -> int:
    """Numbers that a layer of linear attention keeps: a matrix a head, and the last inputs of its convolution."""
    keys, values = linear_widths(c)
    heads = c.whole("linear_num_value_heads")
    state = heads * c.whole("linear_key_head_dim") * c.whole("linear_value_head_dim")
    return state + (2 * keys + values) * c.whole("linear_conv_kernel_dim")


def _count(kinds: Iterable[str], wanted: tuple[str, ...]) -> int:
    return sum(kind in wanted for kind in kinds)
