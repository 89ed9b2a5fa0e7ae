"""What is measured of a traced model, each in a file of its own with formula and source.

>>> "state rms" in {series.name for series in measure(subject)}    # doctest: +SKIP
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from addnorm.diagnosis.measures.attention_entropy import attention_entropy
from addnorm.diagnosis.measures.attention_sinks import attention_sinks
from addnorm.diagnosis.measures.block_influence import block_influence
from addnorm.diagnosis.measures.composite_gain import composite_gain
from addnorm.diagnosis.measures.deletion import deletion
from addnorm.diagnosis.measures.depth_similarity import depth_similarity
from addnorm.diagnosis.measures.depth_weights import depth_weights
from addnorm.diagnosis.measures.effective_rank import effective_rank
from addnorm.diagnosis.measures.lipschitz import lipschitz
from addnorm.diagnosis.measures.logit_attribution import logit_attribution
from addnorm.diagnosis.measures.logit_lens import logit_lens
from addnorm.diagnosis.measures.massive_activations import massive_activations
from addnorm.diagnosis.measures.rms import rms
from addnorm.diagnosis.measures.sinkhorn_error import sinkhorn_error
from addnorm.diagnosis.measures.state_gradient import state_gradient
from addnorm.diagnosis.measures.stream_gates import stream_gates
from addnorm.diagnosis.measures.stream_similarity import stream_similarity
from addnorm.diagnosis.measures.token_similarity import token_similarity
from addnorm.diagnosis.measures.weight_gradient import weight_gradient
from addnorm.diagnosis.running import as_it_was
from addnorm.diagnosis.subject import Series, Subject

Measure = Callable[[Subject], list[Series]]

FROM_THE_TRACE: tuple[Measure, ...] = (
    rms,
    state_gradient,
    effective_rank,
    token_similarity,
    block_influence,
    massive_activations,
    attention_entropy,
    attention_sinks,
    stream_gates,
    stream_similarity,
    composite_gain,
    sinkhorn_error,
    depth_weights,
    depth_similarity,
)
"""They compute on what is there already."""
FROM_THE_MODEL: tuple[Measure, ...] = (weight_gradient, logit_lens, logit_attribution, lipschitz, deletion)
"""They run the model again, the last two many times."""
MEASURES = FROM_THE_TRACE + FROM_THE_MODEL


def measure(subject: Subject, measures: Sequence[Measure] = MEASURES) -> list[Series]:
    """All that apply, one after the other; the model runs in evaluation and is left as it was."""
    with as_it_was(subject.model):
        return [series for one in measures for series in one(subject)]
