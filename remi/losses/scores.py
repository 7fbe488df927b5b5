"""Critic values on the two populations that every bound compares, and the settings that draw them.

A bound sees the joint distribution P through `joint` and the product of the marginals Q through `marginal`; nothing else.
Which pairs belong to which population is decided here, once, so that a loss is only its formula.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

HALF = (torch.float16, torch.bfloat16)
Row = Literal["all", "marginal", "negative", "swapped"]
OfRow = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scores:
    """Critic values T on joint pairs and on marginal pairs; leading dimensions are independent runs.

    Shapes never depend on the data: a setting that uses some of the pairs says which with a mask, so that one code
    serves one run, a stack of runs and a captured graph. A mask may leave out the leading dimensions of what it masks.
    Values in half precision become float32, under autocast too: a bound takes their exponentials.

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
            check_floating(name, value)
            if value.dtype in HALF:
                object.__setattr__(self, name, value.float())
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
        _check_square("matrix", matrix.shape)
        return paired(matrix)

    @classmethod
    def from_logits(cls, logits: Tensor, labels: Tensor | Sequence[int] | np.ndarray) -> "Scores":
        """Supervised benchmark, T(x, y) = logits[y]: the label's logit is joint, all C logits are marginal.

        The marginal population is exact for uniform labels (Theorem 7's setting).

        Args:
            logits: (..., n, C).
            labels: (..., n) integers in [0, C). One outside is an error here; on a GPU, or compiled, PyTorch's own.
        """
        if logits.ndim < 2:
            raise ValueError(f"logits must be (..., n, C), got {tuple(logits.shape)}")
        labels = as_labels(labels, logits)
        try:
            joint = logits.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)
        except RuntimeError:  # looked at only now: a GPU would have to wait for it
            wrong = labels[(labels < 0) | (labels >= logits.shape[-1])].tolist()
            if not wrong:
                raise
            raise ValueError(
                f"labels must be in [0, {logits.shape[-1]}), the columns of logits, got {wrong[0]} ({len(wrong)} such); "
                "there is no label to be ignored: leave such rows out"
            ) from None
        return cls(joint, logits, rowwise=True)

    @classmethod
    def from_embeddings(cls, embeddings: Tensor, labels: Tensor | Sequence[int] | np.ndarray) -> "Scores":
        """Contrastive benchmark, T(x_1, x_2) = z_1 . z_2: same label is joint, all pairs are marginal.

        An image is never paired with itself. A batch in which no two images share a label has no joint pair: see `valid`.

        Args:
            embeddings: (..., n, d).
            labels: (..., n) integers.
        """
        labels = check_embeddings(embeddings, labels)
        return labelled(product(embeddings, embeddings), labels, labels)

    @classmethod
    def from_views(cls, z1: Tensor, z2: Tensor, temperature: float | Tensor = 1.0) -> "Scores":
        """Two views of the same n items, (..., n, d) each: `from_matrix` of z1 z2^T / temperature.

        A temperature that is a tensor, of one value or of one for every run, gets its gradient, and is not looked at: a GPU
        would have to wait for it.
        """
        check_views(z1, z2)
        return paired(product(tempered(z1, temperature), z2))

    @property
    def complete(self) -> bool:
        """Whether every batch has a joint pair, whatever its labels."""
        return self.joint_mask is None

    @property
    def valid(self) -> Tensor:
        """(...) False where a batch has no joint pair: skip it and count it."""
        if self.joint_mask is None:
            return self.joint.new_ones(self.joint.shape[:-1], dtype=torch.bool)
        return self.joint_mask.expand_as(self.joint).any(-1)

    @property
    def pairs(self) -> Tensor:
        """(...) the number of joint pairs."""
        return _count(self.joint_mask, self.joint, 1)

    @property
    def marginal_pairs(self) -> Tensor:
        """(...) the number of marginal pairs."""
        return _count(self.marginal_mask, self.marginal, 2)

    def map(self, transform: Callable[[Tensor], Tensor]) -> "Scores":
        """The same populations with every critic value transformed."""
        return replace(self, joint=transform(self.joint), marginal=transform(self.marginal))

    def runs(self, which: slice | int) -> "Scores":
        """The scores of some runs of a stack, or of one, along the first dimension."""
        parts: dict[str, Any] = {"joint": self.joint[which], "marginal": self.marginal[which]}
        for name, values in (("joint_mask", self.joint), ("marginal_mask", self.marginal), ("row_mask", self.marginal)):
            mask = getattr(self, name)
            parts[name] = mask[which] if mask is not None and mask.ndim == values.ndim else mask
        return replace(self, **parts)

    def halves(self) -> tuple["Scores", "Scores"]:
        """The marginal pairs of the first and of the second half of the batch; of a square matrix those within a half.

        Raises:
            ValueError: there are too few rows for two halves with marginal pairs each.
        """
        rows, k = self.marginal.shape[-2:]
        if rows < (least := 4 if rows == k else 2):
            raise ValueError(
                f"two halves need at least {least} rows of marginal pairs, got marginal {tuple(self.marginal.shape)}"
            )

        def part(values: Tensor | None, some: slice) -> Any:
            return None if values is None else values[..., some, some if rows == k else slice(None)]

        first, second = (
            replace(
                self,
                marginal=part(self.marginal, some),
                marginal_mask=part(self.marginal_mask, some),
                row_mask=None,
                rowwise=False,
            )
            for some in (slice(rows // 2), slice(rows - rows // 2, rows))
        )
        return first, second

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

    def joint_log_mean_exp(self) -> Tensor:
        """Logarithm of E_P[exp T]; -inf where there is no joint pair."""
        return _where(self.joint_mask, self.joint, -torch.inf).logsumexp(-1) - self.pairs.clamp_min(1).log()

    def row_log_mean_exp(self) -> Tensor:
        """Mean over joint pairs of log mean exp of the pair's own row (eq. 5).

        Raises:
            ValueError: the pairs have no row.
        """
        return self.row_mean(lambda t, total, log_n: total - log_n)

    def row_mean(self, of: OfRow, row: Row = "all") -> Tensor:
        """Mean over joint pairs of a function of the pair and its own row.

        Args:
            of: from the pair's score, the log sum exp of its row, and the logarithm of how many entries that has.
            row: "all", with the positive; "marginal", the row's pairs from Q; "swapped", these with the pair itself in place
                of one; "negative", those that are no joint pair, and a pair that has none is left out. Pairs without rows
                have the marginal pairs for a row, and no others to ask for.

        Raises:
            ValueError: the pairs have no row, or nothing says which of its entries are joint pairs.
        """
        total, log_n, pairs = self.row(row)
        return _mean(of(self.joint, total, log_n), pairs, 1)

    def row_pairs(self, row: Row = "all") -> Tensor:
        """(...) the number of joint pairs in `row_mean`."""
        return _count(self.row(row)[-1], self.joint, 1) if row == "negative" else self.pairs

    def row(self, row: Row = "all") -> tuple[Tensor, Tensor, Tensor | None]:
        """For every joint pair: log sum exp of its row, logarithm of how many entries that has, and the pairs that count.

        See `row_mean`.
        """
        if not self.rowwise and row in ("all", "negative"):
            raise ValueError(
                "InfoNCE compares a joint pair with its own row, and these pairs have none: "
                "build the scores with from_matrix, from_views, from_logits or from_embeddings"
            )
        apart = not self.rowwise or (self.row_mask is None and self.marginal_mask is not None)  # no joint pair is a marginal one
        values, mask, pairs = self.marginal, self.row_mask if row == "all" else self.marginal_mask, self.joint_mask
        if not self.rowwise:
            values, mask = values.flatten(-2).unsqueeze(-2), None if mask is None else mask.flatten(-2).unsqueeze(-2)
        if row == "negative" and not apart:
            if self.row_mask is None or pairs is None:
                raise ValueError(
                    "these scores do not say which entries of a row are joint pairs: "
                    "build them with from_matrix, from_views or from_embeddings"
                )
            mask = self.row_mask & ~pairs.unflatten(-1, values.shape[-2:])
        log_n = _log_count(mask, values, 1)
        seen = _but_one(mask, values) if row == "swapped" and apart else mask
        total = _where(seen, values, -torch.inf).logsumexp(-1)
        times = self.joint.shape[-1] // total.shape[-1]
        if row == "negative" and mask is not None and pairs is not None:
            some = mask.any(-1)
            total, pairs = total.masked_fill(~some, 0.0), pairs & some.repeat_interleave(times, -1)
            log_n = torch.as_tensor(log_n).masked_fill(~some, 0.0)
        total = total.repeat_interleave(times, -1)
        if row == "swapped" and apart:
            total = torch.logaddexp(self.joint, total)
        log_n = log_n.repeat_interleave(times, -1) if isinstance(log_n, Tensor) else torch.zeros_like(total) + log_n
        return total, log_n, pairs


# ---- Which pairs are which: some rows of a matrix, or all of them ----------------------------------------------------------


def paired(matrix: Tensor, first: int = 0, positives: int = 1) -> Scores:
    """Some rows' scores against all columns: joint are a row's own columns, all others are marginal.

    Args:
        matrix: (..., rows, k); its first row is row `first` of all.
        first: number of that row.
        positives: columns that belong to a row: row i has the columns from i * positives on.
    """
    others = _others(matrix, first, positives)
    if positives == 1:
        return Scores(matrix.diagonal(first, -2, -1), matrix, marginal_mask=others, rowwise=True)
    rows = matrix.shape[-2]
    block = matrix[..., first * positives : (first + rows) * positives].unflatten(-1, (rows, positives))
    return Scores(block.diagonal(0, -3, -2).transpose(-1, -2).flatten(-2), matrix, marginal_mask=others, rowwise=True)


def labelled(matrix: Tensor, rows: Tensor, columns: Tensor, first: int = 0) -> Scores:
    """Some rows' scores against all columns: joint is what shares a label, marginal are all, and nobody meets itself.

    Args:
        matrix: (..., rows, k); its first row is row `first` of all, and column `first`.
        rows: (..., rows) labels.
        columns: (..., k) labels; further columns have none, and share it with nobody.
        first: number of that row.
    """
    others = _others(matrix, first)
    same = rows.unsqueeze(-1) == columns.unsqueeze(-2)
    if unlabelled := matrix.shape[-1] - columns.shape[-1]:
        same = pad(same, (0, unlabelled))
    return Scores(matrix.flatten(-2), matrix, (same & others).flatten(-2), others, others, rowwise=True)


def _others(matrix: Tensor, first: int, positives: int = 1) -> Tensor:
    """(rows, k) False where a column is the row's own."""
    rows, k = matrix.shape[-2:]
    own = torch.eye(rows, dtype=torch.bool, device=matrix.device)
    if positives > 1:
        own = own.repeat_interleave(positives, -1)
    before, after = first * positives, k - (first + rows) * positives
    own = pad(own, (before, after)) if before or after else own
    return own.logical_not_()


# ---- Products, and what goes into them -------------------------------------------------------------------------------------


def product(rows: Tensor, columns: Tensor) -> Tensor:
    """Inner products of all pairs, in float32 at least, also where autocast would round them to half precision."""
    return _Gram.apply(single(rows)) if columns is rows else _Product.apply(single(rows), single(columns))


def _unrounded(kind: str) -> AbstractContextManager[object]:
    """Whatever autocast is on, where there is one."""
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


class _Product(torch.autograd.Function):
    """x y^T; PyTorch's own would round its gradient where the caller goes backward under autocast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        with _unrounded(x.device.type):
            return x @ y.transpose(-1, -2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        with _unrounded(x.device.type):
            return (
                gradient @ y if ctx.needs_input_grad[0] else None,
                gradient.transpose(-1, -2) @ x if ctx.needs_input_grad[1] else None,
            )


class _Gram(torch.autograd.Function):
    """z z^T, whose gradient (G + G^T) z is one product, not two."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        with _unrounded(z.device.type):
            return z @ z.transpose(-1, -2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        with _unrounded(z.device.type):
            return (gradient + gradient.transpose(-1, -2)) @ z


def single(values: Tensor) -> Tensor:
    """The values in float32, if they are in less."""
    return values.float() if values.dtype in HALF else values


def tempered(z: Tensor, temperature: float | Tensor) -> Tensor:
    """Embeddings (..., n, d) whose inner products are divided by the temperature: the product has no further pass."""
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1 and temperature.shape != z.shape[:-2]:
            raise ValueError(
                f"temperature must be one value, or one for every run, {tuple(z.shape[:-2])}; got {tuple(temperature.shape)}"
            )
        return single(z) / temperature.reshape(() if temperature.numel() == 1 else (*temperature.shape, 1, 1))
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be a positive number, got {temperature!r}")
    return single(z) / temperature


def check_views(z1: Tensor, z2: Tensor, least: int = 2) -> None:
    """Raise unless both are embeddings of the same items, at least so many."""
    check_floating("z1", z1)
    check_floating("z2", z2)
    if z1.shape != z2.shape or z1.ndim < 2:
        raise ValueError(f"z1 and z2 must both be (..., n, d), got {tuple(z1.shape)} and {tuple(z2.shape)}")
    if z1.shape[-2] < least:
        _check_square("z1 @ z2.T", (*z1.shape[:-1], z1.shape[-2]))


def check_embeddings(embeddings: Tensor, labels: Tensor | Sequence[int] | np.ndarray, least: int = 2) -> Tensor:
    """Raise unless there are at least so many embeddings, with a label each; returns the labels."""
    check_floating("embeddings", embeddings)
    if embeddings.ndim < 2:
        raise ValueError(f"embeddings must be (..., n, d), got {tuple(embeddings.shape)}")
    labels = as_labels(labels, embeddings)
    if embeddings.shape[-2] < least:
        _check_square("embeddings @ embeddings.T", (*embeddings.shape[:-1], embeddings.shape[-2]))
    return labels


def lonely(labels: Tensor) -> Tensor:
    """(...) how many of (..., n) labels occur once: these items have no partner."""
    ordered = labels.sort(-1).values
    twins = ordered[..., 1:] == ordered[..., :-1]
    return labels.shape[-1] - (pad(twins, (0, 1)) | pad(twins, (1, 0))).sum(-1)


def as_labels(labels: Tensor | Sequence[int] | np.ndarray, of: Tensor) -> Tensor:
    """Labels, one for each of (..., n, anything), as a tensor; lists and arrays go to the device."""
    shape, given = of.shape[:-1], labels
    if not isinstance(labels, Tensor):
        try:
            labels = torch.as_tensor(np.asarray(labels), device=of.device)
        except (TypeError, ValueError):  # strings, lists of unequal lengths
            raise ValueError(f"labels must be integers of shape {tuple(shape)}, got {given!r}") from None
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.shape != shape:
        raise ValueError(f"labels must be integers of shape {tuple(shape)}, got {labels.dtype} of shape {tuple(labels.shape)}")
    if labels.device != of.device:
        raise ValueError(f"labels must be where their rows are, on {of.device}, got {labels.device}")
    return labels


def check_floating(name: str, value: object) -> None:
    """Raise unless it is a tensor of real numbers."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {getattr(value, 'dtype', type(value).__name__)}")


def _check_square(name: str, shape: Sequence[int]) -> None:
    if len(shape) < 2 or shape[-2] != shape[-1] or shape[-1] < 2:
        raise ValueError(f"{name} must be (..., n, n) with n >= 2, got {tuple(shape)}")


# ---- Means of masked entries -----------------------------------------------------------------------------------------------


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


def _count(mask: Tensor | None, values: Tensor, dims: int) -> Tensor:
    """How many of the last `dims` dimensions' entries the mask keeps."""
    if mask is None:
        return values.new_full(values.shape[:-dims], values.shape[-dims:].numel())
    return mask.flatten(-dims).sum(-1).to(values.dtype).expand(values.shape[:-dims])


def _but_one(mask: Tensor | None, values: Tensor) -> Tensor:
    """What the mask keeps of every row, but for its first entry."""
    mask = torch.ones_like(values[..., :1, :], dtype=torch.bool) if mask is None else mask
    return mask.scatter(-1, mask.byte().argmax(-1, keepdim=True), 0)


def _where(mask: Tensor | None, values: Tensor, otherwise: float) -> Tensor:
    return values if mask is None else values.masked_fill(~mask, otherwise)


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
