"""What gradient of the loss reaches each depth.

    g_i = || d loss / d state_i ||_2 over all tokens, vectors and features

It falls towards the entrance where gradients vanish and grows where they explode (Bengio et al. 1994,
doi:10.1109/72.279181); with an identity skip it stays of one size (He et al. 2016, arXiv:1603.05027).
"""

from __future__ import annotations

from addnorm.diagnosis.subject import Series, Subject


def state_gradient(subject: Subject) -> list[Series]:
    """The norm at each depth; None where no gradient came."""
    gradients = subject.trace.state_gradients
    if not any(gradient is not None for gradient in gradients):
        return []
    values = [None if gradient is None else float(gradient.double().norm()) for gradient in gradients]
    return [Series(name="state gradient", along="state", values=values, label="norm of the loss's gradient")]
