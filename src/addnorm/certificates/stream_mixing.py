"""Streams: how alike they are, what mixing does to them over depth, how doubly stochastic it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.certificates.certificate import Finding, judged, not_applicable
from addnorm.certificates.drawn_numbers import each, leaves, noise, relative
from addnorm.certificates.learning import step_
from addnorm.certificates.recovery import random_states, recover
from addnorm.certificates.subject import BATCH, TOKENS, Body, Subject, surroundings
from addnorm.residual import Connection, State

DEPTH = 8  # layers of the composite gain: 16 sublayers
LARGEST_GAIN = 10.0  # Xie et al. 2025: 1.6 for mHC, 3000 for unconstrained hyper-connections
LOGIT_SCALES = (0.1, 1.0, 3.0, 10.0)
WIDTH = 64
STOCHASTIC = 1e-2  # at logits of size 1: rows and columns of a free mixing matrix are 1 off


def stream_similarity(subject: Subject) -> Finding:
    """The mean cosine between two streams at the exit, before training and after one step; they must part."""
    name = "stream similarity"
    if subject.scheme is None:
        return not_applicable(name, "a module's state is not to be seen.")
    body = subject.body()
    first = _cosine(body)
    if first is None:
        return not_applicable(name, "there is one stream, or a history.")
    step_(body)
    then = _cosine(body)
    assert then is not None
    text = f"the mean cosine between streams is {_near_one(first)} before training, {_near_one(then)} after one step"
    if 1 - then > 1e-13:  # some hundred units of float64's last place
        return judged(name, True, first, f"{text}.")
    return judged(name, False, first, f"{text}: nothing tells one stream from another, they stay equal for ever.")


def composite_gain(subject: Subject) -> Finding:
    """The product of all mixing matrices: its largest absolute row sum (forward) and column sum (backward).

    `Amax` of Xie et al. 2025, arXiv:2512.24880, at random streams and initial parameters, over 16 sublayers.
    """
    name = "composite mixing gain"
    if subject.scheme is None:
        return not_applicable(name, "a module's state is not to be seen.")
    product: Tensor | None = None
    stack, d_model = subject.stack(DEPTH, WIDTH).double(), subject.width(WIDTH)
    for _, connection, state, update in random_states(stack, d_model):
        mixing = recover(connection, state, update).mixing
        if mixing is None or _normalises(connection, state, update, mixing):
            return not_applicable(name, "what the write keeps of the state is not linear in it.")
        if mixing.shape[1] != mixing.shape[2]:
            return not_applicable(name, "the state grows with depth, and its entries are kept as they are.")
        product = mixing if product is None else mixing @ product
    assert product is not None
    forward, backward = (float(product.abs().sum(dim).amax()) for dim in (-1, -2))
    text = f"over {2 * DEPTH} sublayers {forward:.4g} forward, {backward:.4g} backward"
    return judged(name, max(forward, backward) <= LARGEST_GAIN, max(forward, backward), f"{text} before training.")


def sinkhorn_error(subject: Subject) -> Finding:
    """How far rows and columns of the mixing matrix are from summing to one, against the size of its logits.

    Rows must: equal streams then stay equal. Where columns sum to one and rows do not, it is applied transposed.
    """
    name = "Sinkhorn error"
    if subject.scheme is None:
        return not_applicable(name, "a module's state is not to be seen.")
    found = {scale: _errors(subject, scale) for scale in LOGIT_SCALES}
    at_one = found[1.0]
    if at_one is None or min(at_one) > STOCHASTIC:
        return not_applicable(name, "there is no mixing matrix that is kept doubly stochastic.")
    known = {scale: error for scale, error in found.items() if error is not None}
    table = "; ".join(f"{scale:g}: {row:.0e}, {column:.0e}" for scale, (row, column) in known.items())
    row, column = (max(errors) for errors in zip(*known.values(), strict=True))
    transposed = row > max(1e-3, 10 * column)
    end = " Columns sum to one where rows should: the matrix is applied transposed." if transposed else ""
    return judged(name, not transposed, row, f"size of logits: error of rows, of columns: {table}.{end}")


def _near_one(cosine: float) -> str:
    """With as many digits as tell it from 1."""
    if abs(1 - cosine) < 1e-15:
        return "1"
    return f"{cosine:.4f}" if abs(1 - cosine) > 1e-3 else f"1 - {1 - cosine:.1e}"


@torch.no_grad()
def _cosine(body: Body) -> float | None:
    """Between all pairs of streams of the last state, the mean over pairs and tokens."""
    x = noise((BATCH, TOKENS, body.d_model), "embedding")
    streams = _streams(body.states(x, surroundings(x))[-1])
    if streams is None:
        return None
    directions = F.normalize(streams, dim=-1)
    cosines, n = directions @ directions.mT, streams.shape[-2]
    return float((cosines.sum((-1, -2)) - n).mean() / (n * (n - 1)))


def _streams(state: State) -> Tensor | None:
    """`(batch, tokens, n, d_model)` of a state that is one such tensor."""
    found = leaves(state)
    return found[0] if len(found) == 1 and found[0].dim() == 4 and found[0].shape[2] > 1 else None


def _normalises(connection: Connection, state: State, update: Tensor, mixing: Tensor) -> bool:
    """Whether twice the state gives the same: a norm without a gain is a factor that depends on the token's size."""
    doubled = recover(connection, each(lambda leaf: 2 * leaf, state), update).mixing
    return doubled is not None and relative(2 * doubled, mixing) < 0.1 and float(mixing.abs().max()) > 0


@torch.no_grad()
def _errors(subject: Subject, scale: float) -> tuple[float, float] | None:
    """The largest error of a row and of a column at the second site, with static logits of a size."""
    stack, d_model = subject.stack(1, WIDTH).double(), subject.width(WIDTH)
    for site, connection, state, update in random_states(stack, d_model):
        for path, parameter in connection.named_parameters():
            # What maps a token to logits is switched off; all that is left of them is what stands there for each token.
            dynamic = parameter.dim() > 1 and max(parameter.shape) >= d_model
            parameter.copy_(torch.zeros_like(parameter) if dynamic else scale * noise(parameter.shape, path))
        mixing = recover(connection, state, update).mixing
        if site and mixing is not None and mixing.shape[1] == mixing.shape[2] > 1 and _streams(state) is not None:
            row, column = (float((mixing.sum(dim) - 1).abs().max()) for dim in (-1, -2))
            return row, column
    return None
