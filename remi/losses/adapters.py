"""`Loss` in the places where other libraries have theirs. None of them is imported here: an adapter only speaks their calls.

lightly needs none: `criterion = Loss("remine", lam=0.1)` and `criterion(z0, z1)`; with SimCLR's 2 n - 1 negatives,
`criterion(z0, z1, labels=range(len(z0)))`. What is a loss there is one here: InfoNCE without its constant is their
NT-Xent, up to the logarithm of the number of candidates.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from remi.losses.modules import Loss
from remi.losses.scores import single


class MetricLearning(nn.Module):
    """For pytorch-metric-learning: `loss(embeddings, labels)`.

    InfoNCE is `SupConLoss` where every class has as many members, and `NTXentLoss` where it has two.

    Args:
        loss: with the temperature.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: None = None) -> Tensor:
        """The loss of (n, d) embeddings and (n,) labels; a miner's choice is refused: it would be no product of marginals."""
        if indices_tuple is not None:
            raise ValueError("indices_tuple must be None: a mutual-information loss takes all pairs, and not those of a miner")
        return self.loss(embeddings, labels=labels)


class OpenClip(nn.Module):
    """For OpenCLIP: `loss(image_features, text_features, logit_scale)`, as `ClipLoss`.

    The model owns the scale: the loss must have temperature 1 and take the features as they are, with `normalize=False`.

    Args:
        loss: `Loss(..., temperature=1.0, normalize=False)`, with `gather=True` in distributed training.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        if loss.temperature != 1 or loss.normalize:
            raise ValueError(f"loss must have temperature=1.0 and normalize=False, as OpenCLIP's model does both; got {loss}")
        self.loss = loss

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """The loss of (n, d) features of images and their texts; a bias of the model's is for `Loss(bias=...)` to hold."""
        if logit_bias is not None:
            raise ValueError("logit_bias must be None: give the bias to Loss")
        value = self.loss(logit_scale * single(image_features), text_features)
        return {"contrastive_loss": value} if output_dict else value


class SentenceTransformers(nn.Module):
    """For sentence-transformers, as `MultipleNegativesRankingLoss`: anchors, positives, and columns of hard negatives.

    Args:
        model: encodes a column of the batch.
        loss: with `temperature` as the inverse of their scale, and `symmetric=False` for what they do.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch of columns; `labels` are not used, as theirs are not."""
        anchors, positives, *hard = (self.model(column)["sentence_embedding"] for column in sentence_features)
        return self.loss(anchors, positives, negatives=torch.cat(hard) if hard else None)
