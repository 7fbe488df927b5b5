"""Critic values on the two populations that every bound compares, and the settings that draw them.

A bound sees the joint distribution P through `joint` and the product of the marginals Q through `marginal`; nothing else.
Which pairs belong to which population is decided here, once, so that a loss is only its formula.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Critic values T on joint pairs and on marginal pairs; leading dimensions are independent runs.

    Shapes never depend on the data: a setting that uses some of the pairs says which with a mask, so that one code
    serves one run, a stack of runs and a captured graph. A mask may leave out the leading dimensions of what it masks.

    Args:
        joint: (..., n) values T(x, y) with (x, y) drawn from P.
        marginal: (..., rows, k) values T(x, y') with (x, y') drawn from Q.
        joint_mask: the entries of `joint` that are joint pairs; None means all.
        marginal_mask: the entries of `marginal` that are marginal pairs; None means all.
        row_mask: the entries of `marginal` in an InfoNCE row (`from_matrix` keeps the positive there); None means all.
        rowwise: True when `joint` lists the pairs of row 0, then of row 1, and so on; InfoNCE needs it.

    Raises:
        ValueError: the shapes do not fit, a population is empty, a mask is not boolean, or dtype or device differ.
    """

    joint: Tensor
    marginal: Tensor
    joint_mask: Tensor | None = None
    marginal_mask: Tensor | None = None
    row_mask: Tensor | None = None
    rowwise: bool = False

    def __post_init__(self) -> None:
        joint, marginal = self.joint, self.marginal
        for name, value in (("joint", joint), ("marginal", marginal)):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                raise ValueError(f"{name} must be a floating-point tensor, got {getattr(value, 'dtype', type(value).__name__)}")
        if joint.ndim < 1 or marginal.ndim != joint.ndim + 1 or joint.shape[:-1] != marginal.shape[:-2]:
            raise ValueError(
                f"joint must be (..., n) and marginal (..., rows, k) with equal leading dimensions, "
                f"got joint {tuple(joint.shape)} and marginal {tuple(marginal.shape)}"
            )
        if not joint.shape[-1] or not marginal.shape[-2:].numel():
            raise ValueError(f"both populations need pairs, got joint {tuple(joint.shape)} and marginal {tuple(marginal.shape)}")
        if (joint.dtype, joint.device) != (marginal.dtype, marginal.device):
            raise ValueError(
                f"joint and marginal must share dtype and device, got {joint.dtype} on {joint.device} "
                f"and {marginal.dtype} on {marginal.device}"
            )
        if self.rowwise and joint.shape[-1] % marginal.shape[-2]:
            raise ValueError(
                f"rowwise needs as many joint pairs in every row, got {joint.shape[-1]} for {marginal.shape[-2]} rows"
            )
        for name, values, dims in (("joint_mask", joint, 1), ("marginal_mask", marginal, 2), ("row_mask", marginal, 2)):
            _check_mask(name, getattr(self, name), values, dims)

    @classmethod
    def from_matrix(cls, matrix: Tensor) -> "Scores":
        """T[i, j] = T(x_i, y_j), (..., n, n): the diagonal is joint, the rest marginal; row i is anchored at x_i.

        An InfoNCE row keeps its positive (eq. 5), so that bound stays below log n.
        """
        n = _square("matrix", matrix)
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        return cls(diagonal, matrix, marginal_mask=~_identity(n, matrix), rowwise=True)

    @classmethod
    def from_logits(cls, logits: Tensor, labels: Tensor) -> "Scores":
        """Supervised benchmark, T(x, y) = logits[y]: the label's logit is joint, all C logits are marginal.

        The marginal population is exact for uniform labels (Theorem 7's setting).

        Args:
            logits: (..., n, C).
            labels: (..., n) integers in [0, C).
        """
        if logits.ndim < 2:
            raise ValueError(f"logits must be (..., n, C), got {tuple(logits.shape)}")
        _check_labels(labels, logits.shape[:-1])
        joint = logits.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)
        return cls(joint, logits, rowwise=True)

    @classmethod
    def from_embeddings(cls, embeddings: Tensor, labels: Tensor) -> "Scores":
        """Contrastive benchmark, T(x_1, x_2) = z_1 . z_2: same label is joint, all pairs are marginal.

        An image is never paired with itself. A batch in which no two images share a label has no joint pair: see `valid`.

        Args:
            embeddings: (..., n, d).
            labels: (..., n) integers.
        """
        if embeddings.ndim < 2:
            raise ValueError(f"embeddings must be (..., n, d), got {tuple(embeddings.shape)}")
        _check_labels(labels, embeddings.shape[:-1])
        matrix = _Gram.apply(embeddings)
        others = ~_identity(_square("embeddings @ embeddings.T", matrix), matrix)
        same = (labels.unsqueeze(-1) == labels.unsqueeze(-2)) & others
        return cls(matrix.flatten(-2), matrix, same.flatten(-2), others, others, rowwise=True)

    @classmethod
    def from_views(cls, z1: Tensor, z2: Tensor, temperature: float = 1.0) -> "Scores":
        """Two views of the same n items, (..., n, d) each: `from_matrix` of z1 z2^T / temperature."""
        if z1.shape != z2.shape or z1.ndim < 2:
            raise ValueError(f"z1 and z2 must both be (..., n, d), got {tuple(z1.shape)} and {tuple(z2.shape)}")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature must be a positive number, got {temperature!r}")
        return cls.from_matrix(z1 @ z2.transpose(-1, -2) / temperature)

    @property
    def valid(self) -> Tensor:
        """(...) False where a batch has no joint pair: skip it and count it."""
        if self.joint_mask is None:
            return self.joint.new_ones(self.joint.shape[:-1], dtype=torch.bool)
        return self.joint_mask.expand_as(self.joint).any(-1)

    @property
    def pairs(self) -> Tensor:
        """(...) the number of joint pairs."""
        if self.joint_mask is None:
            return self.joint.new_full(self.joint.shape[:-1], self.joint.shape[-1])
        return self.joint_mask.sum(-1).to(self.joint.dtype).expand(self.joint.shape[:-1])

    def map(self, transform: Callable[[Tensor], Tensor]) -> "Scores":
        """The same populations with every critic value transformed."""
        return replace(self, joint=transform(self.joint), marginal=transform(self.marginal))

    def joint_mean(self) -> Tensor:
        """E_P[T], every joint pair with equal weight; 0 where there is none (`valid` says so)."""
        return _mean(self.joint, self.joint_mask, 1)

    def marginal_mean(self) -> Tensor:
        """E_Q[T]."""
        return _mean(self.marginal, self.marginal_mask, 2)

    def marginal_min(self) -> Tensor:
        """(...) the lowest T on a marginal pair."""
        return _where(self.marginal_mask, self.marginal, torch.inf).amin((-2, -1))

    def marginal_max(self) -> Tensor:
        """(...) the highest T on a marginal pair."""
        return _where(self.marginal_mask, self.marginal, -torch.inf).amax((-2, -1))

    def log_mean_exp(self) -> Tensor:
        """Logarithm of E_Q[exp T], finite whenever the scores are."""
        total = _where(self.marginal_mask, self.marginal, -torch.inf).flatten(-2).logsumexp(-1)
        return total - _log_count(self.marginal_mask, self.marginal, 2)

    def row_log_mean_exp(self) -> Tensor:
        """Mean over joint pairs of log mean exp of the pair's own row (eq. 5).

        Raises:
            ValueError: the pairs have no row.
        """
        if not self.rowwise:
            raise ValueError(
                "InfoNCE compares a joint pair with its own row, and these pairs have none: "
                "build the scores with from_matrix, from_views, from_logits or from_embeddings"
            )
        rows = _where(self.row_mask, self.marginal, -torch.inf).logsumexp(-1)
        rows = rows - _log_count(self.row_mask, self.marginal, 1)
        return _mean(rows.repeat_interleave(self.joint.shape[-1] // rows.shape[-1], -1), self.joint_mask, 1)


class _Gram(torch.autograd.Function):
    """z z^T, whose gradient (G + G^T) z is one product, not two."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z @ z.transpose(-1, -2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return (gradient + gradient.transpose(-1, -2)) @ z


def _mean(values: Tensor, mask: Tensor | None, dims: int) -> Tensor:
    """Mean over the last `dims` dimensions of the entries that the mask keeps; 0 where it keeps none."""
    if mask is None:
        return values.flatten(-dims).mean(-1)
    kept = mask.flatten(-dims).sum(-1).clamp_min(1).double()
    share = values.shape[-dims:].numel() / kept  # in double: a count overflows float16
    return _where(mask, values, 0.0).flatten(-dims).mean(-1) * share.to(values.dtype)


def _log_count(mask: Tensor | None, values: Tensor, dims: int) -> Tensor | float:
    """Logarithm of how many of the last `dims` dimensions' entries the mask keeps."""
    if mask is None:
        return math.log(values.shape[-dims:].numel())
    return mask.flatten(-dims).sum(-1).double().log().to(values.dtype)


def _where(mask: Tensor | None, values: Tensor, otherwise: float) -> Tensor:
    return values if mask is None else values.masked_fill(~mask, otherwise)


def _identity(n: int, like: Tensor) -> Tensor:
    return torch.eye(n, dtype=torch.bool, device=like.device)


def _square(name: str, matrix: Tensor) -> int:
    if matrix.ndim < 2 or matrix.shape[-2] != matrix.shape[-1] or matrix.shape[-1] < 2:
        raise ValueError(f"{name} must be (..., n, n) with n >= 2, got {tuple(matrix.shape)}")
    return matrix.shape[-1]


def _check_labels(labels: Tensor, shape: torch.Size) -> None:
    whole = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.dtype == torch.bool)
    if not whole or labels.shape != shape:
        got = f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else repr(labels)
        raise ValueError(f"labels must be integers of shape {tuple(shape)}, got {got}")


def _check_mask(name: str, mask: Tensor | None, values: Tensor, dims: int) -> None:
    if mask is None:
        return
    lead = mask.ndim - dims
    fits = lead >= 0 and mask.shape[lead:] == values.shape[-dims:] and mask.shape[:lead] in (values.shape[:-dims], ())
    if mask.dtype != torch.bool or not fits:
        raise ValueError(
            f"{name} must be boolean of shape {tuple(values.shape)} or {tuple(values.shape[-dims:])}, "
            f"got {mask.dtype} of shape {tuple(mask.shape)}"
        )
