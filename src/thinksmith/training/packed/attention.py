"""Attention over a packed row, by the fastest way that its numbers and the machine allow."""

from __future__ import annotations

from torch import Tensor

from thinksmith.training.packed.layout import Layout
from thinksmith.training.packed.native import kernel
from thinksmith.training.packed.pieces import PieceAttention


def packed_attention(q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, layout: Layout, scale: float) -> Tensor:
    """[H, N, D]: what each token of a packed row gets of those that it sees. Differentiable. H is a multiple of K.

    On a GPU by torch's flex attention, which is compiled for the row's pattern. Elsewhere in float32 at least: by our
    code in C, and by torch's products in pieces where there is no compiler or the numbers are of 64 bits.
    """
    if q_HND.is_cuda:
        return layout.flex.attend(q_HND, k_KND, v_KND, scale)
    in_c = q_HND.dtype.itemsize <= 4 and q_HND.device.type == "cpu"
    if in_c and kernel.fits(len(q_HND), len(k_KND), q_HND.shape[2]):
        native: Tensor = kernel.NativeAttention.apply(q_HND, k_KND, v_KND, layout.plan, scale)  # type: ignore[no-untyped-call]
        return native
    attended: Tensor = PieceAttention.apply(q_HND, k_KND, v_KND, layout, scale)  # type: ignore[no-untyped-call]
    return attended
