"""The span model: an encoder, and for each token how well an answer starts or ends there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from torch import Tensor

from addnorm.choices import takes_fields_of
from addnorm.config import NEEDED, ModelConfig
from addnorm.keywords import ModelKeywords
from addnorm.models.encoder import EncoderWithHead
from addnorm.residual import Scheme
from addnorm.stack import Later

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class SpanModel(EncoderWithHead):
    """An encoder under any residual scheme, with two logits a token: an answer starts here, it ends here.

        hidden = encoder([CLS] question [SEP] context [SEP])
        [start_t; end_t] = W hidden_t + b,   p(span i..j) = softmax(start)_i softmax(end)_j

    Devlin et al. 2018, arXiv:1810.04805, section 4.2; that there is no answer is the span of [CLS] alone, section 4.3.

    Args:
        scheme: the residual scheme, or its text, such as "mhc(streams=4)".
        frozen: so many of the lowest layers, and the embedding, are not trained; 0 trains all.
        seed: of the initial weights.
        calibration: token ids of a typical batch, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `addnorm.config.ModelConfig`.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> model = SpanModel("pre-norm", vocab_size=256, d_model=32, num_heads=4, num_layers=2)
        >>> model(torch.zeros(3, 7, dtype=torch.long)).shape
        torch.Size([3, 7, 2])
    """

    @takes_fields_of(ModelConfig, NEEDED)
    def __init__(
        self,
        scheme: Scheme | str,
        *,
        frozen: int = 0,
        seed: int = 0,
        calibration: Int[Tensor, "batch tokens"] | Later | None = None,
        **shape: Unpack[ModelKeywords],
    ) -> None:
        super().__init__(scheme, 1, 2, frozen=frozen, seed=seed, calibration=calibration, shape=shape)

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
        segments: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens 2"]:
        """The start logit and the end logit of every token.

        Args:
            tokens: token ids.
            keep: which tokens are real; None = all.
            segments: which segment each token is of; a model without segments takes no notice.
        """
        return self.head(self.body(tokens, keep, segments if self.config.segments else None))
