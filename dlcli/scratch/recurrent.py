"""Recurrent layers, with back-propagation through time.

Letters of shapes: T steps, B sequences, I inputs, H hidden units, G gates. All steps' inputs are multiplied by the
input weights at once; the loop over time holds only what depends on the step before.

Source: d2l 9.5, 9.7 (back-propagation through time), 10.1 (LSTM), 10.2 (GRU), 10.3 and 10.4 (deep and bidirectional);
DLFS chapter 6; GDL chapters 12 and 14. The gates are in torch's order, and the GRU's reset gate acts after the product,
as in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.activations import sigmoid_of, tanh_of
from dlcli.scratch.dense import linear
from dlcli.scratch.dropout import dropout as drop
from dlcli.scratch.function import apply, by_hand, refuse

State = tuple[Tensor, ...]


@by_hand
class RNNLayer(Function):
    """``h_t = f(a_t + U h_{t-1} + c)`` with a_t = W x_t + b computed before, and f = tanh or the rectifier.

    h_t reaches the loss through its own output and through step t + 1. Going backwards with dh, the sum of both:
    dz = dh * f'(z), where tanh' = 1 - h² and relu' = 1 where h > 0. Then **da_t = dz**, step t - 1 receives
    **dh_{t-1} = dz U**, and all steps share the parameters: **dU = sum_t dz_t' h_{t-1}**, **dc = sum_t dz_t**.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, h: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
        states = [h]
        for a_t in a:
            z = a_t + states[-1] @ weight.T + bias  # (B, H)
            states.append(z.clamp(min=0) if relu else tanh_of(z))
        before, after = torch.stack(states[:-1]), torch.stack(states[1:])  # (T, B, H)
        ctx.save_for_backward(before, after, weight)
        ctx.relu = relu
        return after, states[-1].clone()

    @staticmethod
    def backward(ctx: Any, doutputs: Tensor, dlast: Tensor) -> tuple[Any, ...]:
        before, after, weight = ctx.saved_tensors
        slope = (after > 0).to(after.dtype) if ctx.relu else 1 - after**2  # (T, B, H)
        da, dh = torch.empty_like(after), dlast
        for t in reversed(range(len(after))):
            da[t] = (dh + doutputs[t]) * slope[t]
            dh = da[t] @ weight
        return da, dh, over_time(da, before), da.sum((0, 1)), None


@by_hand
class LSTMLayer(Function):
    """``c_t = f * c_{t-1} + i * g`` and ``h_t = o * tanh(c_t)`` with gates (i, f, g, o) from z_t = a_t + U h_{t-1} + b.

    i, f, o = sigmoid(z) and g = tanh(z), each of its own quarter. Backwards, with dh and dc that arrive from step
    t + 1 (and dh from the output): c_t reaches the loss through h_t too, so dc += dh * o * (1 - tanh²(c_t)). Then
    di = dc * g, df = dc * c_{t-1}, dg = dc * i, do = dh * tanh(c_t), and through the gates' own slopes
    **dz = (di i(1-i), df f(1-f), dg (1-g²), do o(1-o))**. Step t - 1 receives **dh = dz U** and **dc = dc * f**: the
    memory's gradient is multiplied by the forget gate alone, which is why it lasts. **dU = sum_t dz_t' h_{t-1}**.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden, memory, gates = [h], [c], []
        for a_t in a:
            z_i, z_f, z_g, z_o = (a_t + hidden[-1] @ weight.T + bias).chunk(4, 1)  # (B, H) each
            i, f, g, o = sigmoid_of(z_i), sigmoid_of(z_f), tanh_of(z_g), sigmoid_of(z_o)
            memory.append(f * memory[-1] + i * g)
            hidden.append(o * tanh_of(memory[-1]))
            gates.append(torch.stack([i, f, g, o]))  # (4, B, H)
        ctx.save_for_backward(torch.stack(hidden[:-1]), torch.stack(memory), torch.stack(gates), weight)
        return torch.stack(hidden[1:]), hidden[-1].clone(), memory[-1].clone()

    @staticmethod
    def backward(ctx: Any, doutputs: Tensor, dh: Tensor, dc: Tensor) -> tuple[Any, ...]:
        before, memory, gates, weight = ctx.saved_tensors
        da = doutputs.new_empty(*before.shape[:2], 4 * before.shape[2])  # (T, B, 4H)
        for t in reversed(range(len(before))):
            i, f, g, o = gates[t]
            seen = tanh_of(memory[t + 1])
            dh = dh + doutputs[t]
            dc = dc + dh * o * (1 - seen**2)
            di, df, dg, do = dc * g, dc * memory[t], dc * i, dh * seen
            torch.cat([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], 1, out=da[t])
            dh, dc = da[t] @ weight, dc * f
        return da, dh, dc, over_time(da, before), da.sum((0, 1))


@by_hand
class GRULayer(Function):
    """``h_t = (1 - z) * n + z * h_{t-1}`` with a reset gate r, an update gate z and the new content n.

    With u = U h_{t-1} + b in thirds: r = sigmoid(a_r + u_r), z = sigmoid(a_z + u_z), n = tanh(a_n + r * u_n).
    Backwards: dn = dh * (1 - z), dz = dh * (h_{t-1} - n); **da_n = dn (1 - n²)**, **da_z = dz z(1-z)**,
    dr = da_n * u_n and **da_r = dr r(1-r)**. u enters like a, but its last third is multiplied by r:
    du = (da_r, da_z, da_n * r). Step t - 1 receives **dh = dh * z + du U**; **dU = sum_t du_t' h_{t-1}** and
    **db = sum_t du_t**.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        hidden, gates = [h], []
        for a_t in a:
            (a_r, a_z, a_n), (u_r, u_z, u_n) = a_t.chunk(3, 1), (hidden[-1] @ weight.T + bias).chunk(3, 1)
            r, z = sigmoid_of(a_r + u_r), sigmoid_of(a_z + u_z)
            n = tanh_of(a_n + r * u_n)
            hidden.append((1 - z) * n + z * hidden[-1])
            gates.append(torch.stack([r, z, n, u_n]))  # (4, B, H)
        ctx.save_for_backward(torch.stack(hidden[:-1]), torch.stack(gates), weight)
        return torch.stack(hidden[1:]), hidden[-1].clone()

    @staticmethod
    def backward(ctx: Any, doutputs: Tensor, dh: Tensor) -> tuple[Any, ...]:
        before, gates, weight = ctx.saved_tensors
        da = doutputs.new_empty(*before.shape[:2], 3 * before.shape[2])  # (T, B, 3H)
        du = torch.empty_like(da)
        for t in reversed(range(len(before))):
            r, z, n, u_n = gates[t]
            dh = dh + doutputs[t]
            da_n = dh * (1 - z) * (1 - n**2)
            da_z = dh * (before[t] - n) * z * (1 - z)
            da_r = da_n * u_n * r * (1 - r)
            torch.cat([da_r, da_z, da_n], 1, out=da[t])
            torch.cat([da_r, da_z, da_n * r], 1, out=du[t])
            dh = dh * z + du[t] @ weight
        return da, dh, over_time(du, before), du.sum((0, 1))


def over_time(dz: Tensor, before: Tensor) -> Tensor:
    """sum_t dz_t' h_{t-1} of dz (T, B, G·H) and h (T, B, H), in one product: (G·H, H)."""
    return dz.flatten(0, 1).T @ before.flatten(0, 1)


# ---------------------------------------------------------------------- torch's calls

Layer = Callable[[Tensor, State, Tensor, Tensor], tuple[Tensor, ...]]
"""(a (T, B, G·H), states (B, H) each, U, bias) -> (outputs (T, B, H), *states after the last step)."""


def rnn_layer(relu: bool) -> Layer:
    return lambda a, state, weight, bias: apply(RNNLayer, a, *state, weight, bias, relu)


def lstm_layer(a: Tensor, state: State, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    outputs: tuple[Tensor, ...] = apply(LSTMLayer, a, *state, weight, bias)
    return outputs


def gru_layer(a: Tensor, state: State, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    outputs: tuple[Tensor, ...] = apply(GRULayer, a, *state, weight, bias)
    return outputs


def stacked(
    name: str,
    layer: Layer,
    x: Tensor,
    states: State,
    parameters: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> State:
    """Layers upon each other, in each direction of time, with dropout between them: outputs and last states."""
    directions = 2 if bidirectional else 1
    each = len(parameters) // (num_layers * directions)
    refuse(name, "a projection of its state", each != (4 if has_biases else 2))
    x = x.transpose(0, 1) if batch_first else x  # (T, B, I)
    last: list[list[Tensor]] = [[] for _ in states]
    for number in range(num_layers):
        outputs = []
        for place in range(number * directions, (number + 1) * directions):
            backwards = place % directions == 1
            weight, recurrent, *biases = parameters[place * each : (place + 1) * each]
            bias, recurrent_bias = biases or [weight.new_zeros(len(weight))] * 2
            a = linear(x.flip(0) if backwards else x, weight, bias)  # (T, B, G·H)
            y, *after = layer(a, tuple(state[place] for state in states), recurrent, recurrent_bias)
            outputs.append(y.flip(0) if backwards else y)
            for kept, state in zip(last, after, strict=True):
                kept.append(state)
        x = torch.cat(outputs, 2)  # (T, B, directions · H)
        if number < num_layers - 1:
            x = drop(x, dropout, train)
    return (x.transpose(0, 1) if batch_first else x, *(torch.stack(kept) for kept in last))


def refuse_packed(name: str, parameters: Any) -> None:
    """In a packed call, states stand where the list of parameters is otherwise."""
    refuse(name, "packed sequences", not isinstance(parameters, list))


def lstm(x: Tensor, states: State, parameters: list[Tensor], *options: Any) -> State:
    """``torch.lstm`` -> outputs, h, c."""
    refuse_packed("lstm", parameters)
    return stacked("lstm", lstm_layer, x, tuple(states), parameters, *options)


def gru(x: Tensor, state: Tensor, parameters: list[Tensor], *options: Any) -> State:
    """``torch.gru`` -> outputs, h."""
    refuse_packed("gru", parameters)
    return stacked("gru", gru_layer, x, (state,), parameters, *options)


def rnn_tanh(x: Tensor, state: Tensor, parameters: list[Tensor], *options: Any) -> State:
    """``torch.rnn_tanh`` -> outputs, h."""
    refuse_packed("rnn_tanh", parameters)
    return stacked("rnn_tanh", rnn_layer(relu=False), x, (state,), parameters, *options)


def rnn_relu(x: Tensor, state: Tensor, parameters: list[Tensor], *options: Any) -> State:
    """``torch.rnn_relu`` -> outputs, h."""
    refuse_packed("rnn_relu", parameters)
    return stacked("rnn_relu", rnn_layer(relu=True), x, (state,), parameters, *options)


def cell(layer: Layer, x: Tensor, states: State, parameters: tuple[Tensor | None, ...]) -> State:
    """One step, x (B, I) or (I): the states after it."""
    weight, recurrent, bias, recurrent_bias = parameters
    assert weight is not None
    assert recurrent is not None
    a = linear(x, weight, bias)[None]  # (1, B, G·H)
    zeros = weight.new_zeros(len(weight))
    return layer(a, states, recurrent, zeros if recurrent_bias is None else recurrent_bias)[1:]


def lstm_cell(
    x: Tensor, states: State, w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None
) -> State:
    """``torch.lstm_cell`` -> h, c."""
    return cell(lstm_layer, x, tuple(states), (w, u, b, c))


def gru_cell(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Tensor:
    """``torch.gru_cell`` -> h."""
    return cell(gru_layer, x, (h,), (w, u, b, c))[0]


def rnn_tanh_cell(
    x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None
) -> Tensor:
    """``torch.rnn_tanh_cell`` -> h."""
    return cell(rnn_layer(relu=False), x, (h,), (w, u, b, c))[0]


def rnn_relu_cell(
    x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None
) -> Tensor:
    """``torch.rnn_relu_cell`` -> h."""
    return cell(rnn_layer(relu=True), x, (h,), (w, u, b, c))[0]
