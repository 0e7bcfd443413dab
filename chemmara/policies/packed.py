"""An LSTM layer over sequences of unequal length without a step on padding, and with its own backward pass.

Rows are sorted by length, longest first, and laid out time-major as in torch's PackedSequence: first the n_0 rows at
time 0, then the n_1 <= n_0 rows that are still going at time 1, and so on. Molecules of one batch differ by a factor of
two in length, so a padded batch computes nearly twice what is asked. The products with the input, and all gradients of
weights, are one matrix product a layer; only h W_hh goes step by step. Products run in ``dtype``, the cell and all sums
over time in float32.

oneDNN makes, and remembers, a kernel for each size of a product that it meets, about 2 MB each. So packed tensors have
spare rows up to a multiple of TOKENS, and a step's product takes a multiple of ROWS: what comes out of spare rows is
cut off, and their gradients are zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

TOKENS = 128
ROWS = 8


def _filled(rows: int) -> int:
    return -(-rows // ROWS) * ROWS


class Packing:
    """How the rows of padded ids (B, T) lie in a packed tensor.

    ``order``: (B,) rows by length, longest first; ``sizes``: rows that are still going at each time; ``index``: (N,)
    places of the packed tokens in the flattened (T, B) tensor of the *sorted* rows.
    """

    def __init__(self, lengths: Tensor) -> None:
        ordered, self.order = lengths.sort(descending=True, stable=True)
        self.rows, self.steps = len(lengths), int(ordered[0])
        going = torch.arange(self.steps, device=lengths.device)[:, None] < ordered[None, :]  # (T, B)
        self.sizes: list[int] = going.sum(1).tolist()
        self.index = going.flatten().nonzero()[:, 0]

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...)."""
        return padded[self.order, : self.steps].transpose(0, 1).flatten(0, 1)[self.index]

    def unpack(self, packed: Tensor, width: int) -> Tensor:
        """(N,) -> (B, width), 0 at padding."""
        times_rows = packed.new_zeros(self.steps * self.rows).index_copy(0, self.index, packed)
        padded = packed.new_zeros(self.rows, width)
        padded[self.order, : self.steps] = times_rows.view(self.steps, self.rows).T
        return padded


class PackedLayer(torch.autograd.Function):
    """h_t of one LSTM layer from zero states. [Hochreiter and Schmidhuber 1997; gates in torch's order i, f, g, o]"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
        """x: (N, in) of one dtype with the weights (4H, in) and (4H, H); bias (4H,) float32 -> (N, H).

        N is sum(sizes) and at least ROWS spare rows; those of the result are 0.
        """
        gates = F.linear(x, weight_ih)
        n, size = len(x), weight_hh.shape[1]
        acts, cells = x.new_empty((n, 4 * size), dtype=torch.float32), x.new_empty((n, size), dtype=torch.float32)
        out = x.new_empty((n, size))
        h, c, start = x.new_zeros((_filled(sizes[0]), size)), x.new_zeros((sizes[0], size), dtype=torch.float32), 0
        for rows in sizes:
            at = slice(start, start + rows)
            act = acts[at]
            torch.add(gates[at], bias, out=act)
            if start:  # h is zero at the beginning
                act += F.linear(h[: _filled(rows)], weight_hh)[:rows]
            act[:, : 2 * size].sigmoid_()
            act[:, 2 * size : 3 * size].tanh_()
            act[:, 3 * size :].sigmoid_()
            i, f, g, o = act.chunk(4, 1)
            c = torch.addcmul(f * c[:rows], i, g)
            cells[at] = c
            h[:rows] = torch.mul(o, c.tanh())
            out[at] = h[:rows]
            start += rows
        out[start:] = 0
        ctx.save_for_backward(x, weight_ih, weight_hh, acts, cells, out)
        ctx.sizes = sizes
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, both weights and the bias."""
        x, weight_ih, weight_hh, acts, cells, out = ctx.saved_tensors
        sizes: list[int] = ctx.sizes
        (grad,) = gradients
        size = weight_hh.shape[1]
        dgates = x.new_empty((len(x), 4 * size))
        dgates[sum(sizes) :] = 0
        previous = torch.zeros_like(out)
        dh, dc = grad.new_zeros((0, size), dtype=torch.float32), grad.new_zeros((0, size), dtype=torch.float32)
        starts = [0]
        for rows in sizes[:-1]:
            starts.append(starts[-1] + rows)
        for step in range(len(sizes) - 1, -1, -1):
            rows, start = sizes[step], starts[step]
            at = slice(start, start + rows)
            i, f, g, o = acts[at].chunk(4, 1)
            squashed = cells[at].tanh()
            total = grad[at].float()
            total[: len(dh)] += dh
            dcell = total * o * (1 - squashed.square())
            dcell[: len(dc)] += dc
            dgate = dgates[at]
            if step:
                before = slice(starts[step - 1], starts[step - 1] + rows)
                dgate[:, size : 2 * size] = dcell * cells[before] * (f * (1 - f))
                previous[at] = out[before]
            else:
                dgate[:, size : 2 * size] = 0
            dgate[:, :size] = dcell * g * (i * (1 - i))
            dgate[:, 2 * size : 3 * size] = dcell * i * (1 - g.square())
            dgate[:, 3 * size :] = total * squashed * (o * (1 - o))
            if step:
                dc = dcell * f
                dh = (dgates[start : start + _filled(rows)] @ weight_hh)[:rows]  # what follows is a later step's
        return (
            dgates @ weight_ih if ctx.needs_input_grad[0] else None,
            dgates.T @ x,
            dgates.T @ previous,
            dgates.sum(0, dtype=torch.float32),
            None,
        )


def packed_lstm(lstm: torch.nn.RNNBase, embedded: Tensor, packing: Packing, dtype: torch.dtype) -> Tensor:
    """The last layer's h of packed inputs (N, in): (N', H) in ``dtype``, with spare rows of 0 behind the N.

    Dropout between layers as the module has it.
    """
    spare = -(-(len(embedded) + ROWS) // TOKENS) * TOKENS - len(embedded)
    hidden = F.pad(embedded.to(dtype), (0, 0, 0, spare))
    for layer in range(lstm.num_layers):
        if layer and lstm.dropout and lstm.training:
            hidden = F.dropout(hidden, lstm.dropout)
        get = lstm.get_parameter
        bias = get(f"bias_ih_l{layer}") + get(f"bias_hh_l{layer}")
        hidden = PackedLayer.apply(  # type: ignore[no-untyped-call]
            hidden, get(f"weight_ih_l{layer}").to(dtype), get(f"weight_hh_l{layer}").to(dtype), bias, packing.sizes
        )
    return hidden
