"""The vision Transformer: images to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

from torch import Tensor, nn

from addnorm.choices import takes_fields_of
from addnorm.config import NEEDED, ModelConfig, model_config
from addnorm.errors import unknown
from addnorm.keywords import ModelKeywords
from addnorm.layers.context import Context
from addnorm.layers.patches import PatchEmbedding, PatchGrid
from addnorm.models.body import Body
from addnorm.models.sublayers import build_stack
from addnorm.residual import Scheme
from addnorm.stack import Later, Stack

if TYPE_CHECKING:
    from jaxtyping import Float

Pooling = Literal["mean", "class"]


class VisionTransformer(Body):
    """An image classifier: patches, an encoder under any residual scheme, one vector an image, a linear head.

        tokens = [class token;] W patch_i + b + P_i
        hidden = exit(stack(tokens)),   logits = W_head pool(hidden) + b_head

    The pool is the mean over patches, or the class token's vector. Dosovitskiy et al. 2020, arXiv:2010.11929; the mean
    without a class token: Beyer et al. 2022, arXiv:2205.01580. The scheme's norms stand where the paper has Pre-LN's.

    Args:
        scheme: the residual scheme, or its text, such as "mhc(streams=4)".
        grid: size of the images and of the patches.
        pooling: "mean" over the patches, or the "class" token.
        seed: of the initial weights.
        calibration: images of a typical batch, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `addnorm.config.ModelConfig`; `vocab_size` is the number of classes. `tie_embeddings` and
            `max_tokens` have no meaning here.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> grid = PatchGrid(height=8, width=8, channels=1, patch=4)
        >>> model = VisionTransformer("pre-norm", grid=grid, vocab_size=10, d_model=32, num_heads=4, num_layers=2)
        >>> model(torch.zeros(3, 8, 8, 1)).shape
        torch.Size([3, 10])
    """

    reads = "a batch of images"

    @takes_fields_of(ModelConfig, NEEDED)
    def __init__(
        self,
        scheme: Scheme | str,
        *,
        grid: PatchGrid,
        pooling: Pooling = "mean",
        seed: int = 0,
        calibration: Float[Tensor, "batch height width channels"] | Later | None = None,
        **shape: Unpack[ModelKeywords],
    ) -> None:
        super().__init__(scheme, calibration)
        if pooling not in ("mean", "class"):
            raise unknown("pooling", str(pooling), ("mean", "class"))
        self.config = model_config(shape)
        self.embedding = PatchEmbedding(grid, self.config)
        self.class_token = nn.Embedding(1, self.config.d_model) if pooling == "class" else None
        self.stack = build_stack(self.scheme, self.config, "encoder")
        self.head = nn.Linear(self.config.d_model, self.config.vocab_size)
        self.logits = self.scheme.logits(self.config.d_model, self.config.vocab_size)
        self.start_(seed, calibration)

    def stacks(self) -> list[tuple[Stack, list[Tensor]]]:
        return [(self.stack, [self.head.weight])]

    def example(self) -> tuple[Tensor, ...]:
        grid = self.embedding.grid
        return (self.head.weight.new_zeros(1, grid.height, grid.width, grid.channels),)

    def features(self, images: Float[Tensor, "batch height width channels"]) -> Float[Tensor, "batch d_model"]:
        """The vector of each image that the head reads."""
        hidden = self.stack(self._tokens(images), Context())
        return hidden.mean(dim=1) if self.class_token is None else hidden[:, 0]

    def forward(self, images: Float[Tensor, "batch height width channels"]) -> Float[Tensor, "batch classes"]:
        """The logits of each image's class.

        Args:
            images: numbers from -1 to 1.
        """
        return self.logits(self.head(self.features(images)))

    def _tokens(self, images: Tensor) -> Tensor:
        if self.class_token is None:
            return self.embedding(images)
        return self.embedding(images, self.class_token.weight.expand(len(images), 1, -1))
