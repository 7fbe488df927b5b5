"""Losses for the training that people already have: `loss(z1, z2)` is a scalar to minimise, and all else is `estimators`'.

loss = Loss("remine", lam=0.1, temperature=0.1)
loss(z1, z2)                        two views of the same items, (n, d) each
loss(z, labels=y)                   items that share a label belong together; loss(z1, z2, labels=y) takes both views so
loss(q, k)                          several positives: k is (n, p, d)
loss(q, k, negatives=n)             further negatives of all, (m, d), or of each, (n, m, d)
loss(q, k, negatives=queue(k))      those of earlier batches: a `Queue`
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from remi.losses import estimators
from remi.losses.chunked import Chunked, check_rows
from remi.losses.estimators import Reading
from remi.losses.gathered import Gathered, Shares
from remi.losses.scores import Scores, as_labels, check_floating, labelled, lonely, paired, product, single, tempered

ROWWISE = ("infonce", "infonce_anchor", "dcl")  # an anchor is compared with its own row
Labels = Tensor | Sequence[int] | np.ndarray


class Loss(nn.Module):
    """Minus the objective of `estimators.get(name, **options)`, of inner products of embeddings over a temperature, plus a bias.

        T(x, y)  =  z_x . z_y / temperature + bias

    Which pairs are joint and which marginal is as in `Scores.from_views` and, with labels, `Scores.from_embeddings`. An anchor
    without a positive adds no joint pair; a batch without one is 0 without gradient. Both are counted, in `skipped_anchors` and
    `skipped_batches`. Everything is in float32 at least, under autocast too.

    `loss.reading` is the last call's `Reading`, detached: `loss.reading.estimate` is what to log. It is in nats.

    Args:
        name: of the loss, as in `estimators.get`.
        temperature: divides the inner products.
        bias: added to the scores; MINE and InfoNCE do not notice it, their twins do.
        normalize: take embeddings of length 1.
        symmetric: for losses with rows (InfoNCE, also anchored, and DCL), the mean over both views as anchors, as CLIP does.
            The other losses are symmetric anyway, and with several positives or further negatives only the first
            argument anchors.
        gather: take all processes' inputs as one batch (`remi.losses.gathered` says what a gradient then is: under
            `DistributedDataParallel` the whole batch's). A loss that learns must be wrapped with its encoder.
        rows: scores that are there at a time, for batches that do not fit (`remi.losses.chunked`); None means all.
        learn_temperature: train the temperature, by the logarithm of its inverse, `log_scale`.
        learn_bias: train the bias.
        **options: of the loss, such as `lam`.

    Raises:
        ValueError: an option that the loss does not have, or a value out of range.
    """

    skipped_anchors: Tensor
    skipped_batches: Tensor

    def __init__(
        self,
        name: str,
        *,
        temperature: float = 0.1,
        bias: float = 0.0,
        normalize: bool = True,
        symmetric: bool = True,
        gather: bool = False,
        rows: int | None = None,
        learn_temperature: bool = False,
        learn_bias: bool = False,
        **options: object,
    ) -> None:
        super().__init__()
        tempered(torch.ones(1), float(temperature))  # for its error
        if not math.isfinite(bias):
            raise ValueError(f"bias must be a finite number, got {bias!r}")
        self.name, self.options = name, options
        self.normalize, self.symmetric, self.gather = normalize, symmetric, gather
        self.rows = rows if rows is None else check_rows(rows)
        self._estimator = estimators.get(name, **options)
        self._temperature, self._bias = float(temperature), float(bias)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature))) if learn_temperature else None
        self.bias = nn.Parameter(torch.tensor(float(bias))) if learn_bias else None
        self.reading: Reading | None = None
        self.register_buffer("skipped_anchors", torch.tensor(0))
        self.register_buffer("skipped_batches", torch.tensor(0))

    @property
    def temperature(self) -> float | Tensor:
        """What divides the inner products now."""
        return self._temperature if self.log_scale is None else (-self.log_scale).exp()

    def forward(
        self, z1: Tensor, z2: Tensor | None = None, *, labels: Labels | None = None, negatives: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            z1: (n, d), one embedding per anchor.
            z2: (n, d) another view of each, or (n, p, d), p of them.
            labels: (n,) integers, whose equals belong together; then `z2` is (n, d), or not there.
            negatives: (m, d) that belong to nobody, or (n, m, d) that do not belong to their own anchor.

        Returns:
            A scalar in nats, to minimise.

        Raises:
            ValueError: shapes, types or devices do not fit.
        """
        z1 = self._embeddings("z1", z1, (2,))
        z2 = None if z2 is None else self._embeddings("z2", z2, (2, 3) if labels is None else (2,), z1)
        if negatives is not None:
            negatives = self._embeddings("negatives", negatives, (2, 3), z1)
        if labels is not None:
            labels = as_labels(labels, z1)
            if z2 is not None:
                z1, labels = torch.cat([z1, z2]), torch.cat([labels, labels])
            directions = [self._scores(z1, z1, labels, negatives)]
        elif z2 is None:
            raise ValueError("z2 or labels must be given: one of them says what belongs to an item of z1")
        else:
            directions = [self._scores(z1, z2, None, negatives)]
            if self.symmetric and z2.ndim == 2 and negatives is None and estimators.family(self.name.lower()) in ROWWISE:
                whole = self.rows is None and not self.gather
                turned = replace(directions[0], marginal=directions[0].marginal.mT) if whole else self._scores(z2, z1, None, None)
                directions.append(turned)
        readings = [self._estimator(scores) for scores in directions]
        reading = Reading(
            *(sum(values) / len(values) if len(values) > 1 else values[0] for values in zip(*readings, strict=True))
        )
        self.reading = Reading(*(value.detach() for value in reading))
        return -reading.objective

    def _embeddings(self, name: str, z: Tensor, dims: tuple[int, ...], anchors: Tensor | None = None) -> Tensor:
        """Embeddings in single precision at least, of length 1 if they should be."""
        check_floating(name, z)
        n, d = (len(anchors), anchors.shape[1]) if anchors is not None else ("n", "d")
        shapes = {
            2: f"(m, {d})" if name == "negatives" else f"({n}, {d})",
            3: f"({n}, {'m' if name == 'negatives' else 'p'}, {d})",
        }
        fits = (
            z.ndim in dims and (d == "d" or z.shape[-1] == d) and (n == "n" or len(z) == n or (name, z.ndim) == ("negatives", 2))
        )
        if not fits or (anchors is not None and z.device != anchors.device):
            wanted = " or ".join(shapes[dim] for dim in dims) + ("" if anchors is None else f" on {anchors.device}")
            raise ValueError(f"{name} must be {wanted}, got {tuple(z.shape)} on {z.device}")
        return normalize(single(z), dim=-1) if self.normalize else single(z)

    def _scores(self, rows: Tensor, columns: Tensor, labels: Tensor | None, negatives: Tensor | None) -> Scores:
        """This process's rows against all columns, some rows at a time if they should be."""
        n, positives = len(rows), 1 if columns.ndim == 2 else columns.shape[1]
        rows = tempered(rows, self.temperature)
        shares = Shares(n, rows.device, self.gather)
        columns = shares.collect(columns).flatten(0, -2)
        every = None if labels is None else shares.collect(labels)
        own = negatives if negatives is not None and negatives.ndim == 3 else None
        if negatives is not None and own is None:
            columns = torch.cat([columns, Shares(len(negatives), negatives.device, self.gather).collect(negatives)])
        if len(columns) + (0 if own is None else own.shape[1]) <= positives:
            raise ValueError(f"a batch needs at least two items, or negatives, to tell one from another; got {len(rows)} alone")

        def block(some: slice) -> Scores:
            matrix = product(rows[some], columns)
            if own is not None:
                matrix = torch.cat([matrix, product(rows[some].unsqueeze(1), own[some]).squeeze(1)], -1)
            if labels is None or every is None:
                scores = paired(matrix, shares.first + some.start, positives)
            else:
                scores = labelled(matrix, labels[some], every, shares.first + some.start)
            bias = self._bias if self.bias is None else self.bias
            return scores if self.bias is None and not self._bias else scores.map(lambda t: t + bias)

        valid = None
        if every is not None:
            alone = lonely(every)
            valid = alone < len(every)
            self.skipped_anchors += alone
            self.skipped_batches += ~valid
        scores = block(slice(0, n)) if self.rows is None else Chunked.of(block, n, self.rows, valid)
        return Gathered(scores, shares, valid) if self.gather else scores

    def extra_repr(self) -> str:
        """What it was made of, with what has been learned since."""
        temperature, bias = self.temperature, self._bias if self.bias is None else self.bias.item()
        temperature = temperature.item() if isinstance(temperature, Tensor) else temperature
        parts = [repr(self.name), *(f"{key}={value}" for key, value in self.options.items())]
        parts += [f"temperature={temperature:.4g}{' (learned)' * (self.log_scale is not None)}"]
        parts += [f"bias={bias:.4g}{' (learned)' * (self.bias is not None)}"] if bias or self.bias is not None else []
        parts += [f"{key}={getattr(self, key)}" for key in ("normalize", "symmetric", "gather", "rows")]
        return ", ".join(parts)

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_estimator"}  # a function: made anew

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self._estimator = estimators.get(self.name, **self.options)


class Queue(nn.Module):
    """The last embeddings of earlier batches, without gradient, for `negatives=`.

        loss(q, k, negatives=queue(k))

    Called with a batch it returns what came before, and takes the batch in while it is in training mode. Its content is in the
    state dict. A queue knows no labels: what it holds is a negative of all. It was encoded by an older encoder; where that
    matters, `k` comes from a slow average of the encoder, as in MoCo (He and others, 2020).

    Args:
        size: embeddings that are kept.
    """

    embeddings: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = check_rows(size, "size")
        self.register_buffer("embeddings", torch.empty(0, 0))

    def forward(self, z: Tensor) -> Tensor:
        """What came before, (at most size, d), and no longer without `z`, (n, d)."""
        past = self.embeddings.to(z) if len(self.embeddings) else z.detach()[:0]
        if self.training:
            self.embeddings = torch.cat([past, z.detach()])[-self.size :]
        return past

    def extra_repr(self) -> str:
        """How much is there of what may be."""
        return f"size={self.size}, filled={len(self.embeddings)}"

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        saved = state_dict.get(f"{prefix}embeddings")
        self.embeddings = self.embeddings if saved is None else self.embeddings.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)
