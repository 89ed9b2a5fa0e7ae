"""How alike the streams of a token are.

    mean over pairs k != l of <S_k, S_l> / (|S_k| |S_l|)

1 where nothing tells one stream from another: n streams then cost what n cost and do what one does. Streams that stay
alike, or of which one does all, are what hyper-connections suffer from (Alimaskina et al. 2026, arXiv:2606.03483).
"""

from __future__ import annotations

from addnorm.diagnosis.measures.token_similarity import mean_cosine
from addnorm.diagnosis.subject import Series, Subject, rows


def stream_similarity(subject: Subject) -> list[Series]:
    """The mean over tokens at each depth; nothing of one stream or a history."""
    trace = subject.trace
    if trace.trunk.layout != "streams":
        return []
    several = [rows(state, trace.mask, 2) for state in trace.states]
    values = [mean_cosine(state) if state.shape[-2] > 1 else None for state in several]
    return [Series(name="stream similarity", along="state", values=values, label="mean cosine between two streams")]
