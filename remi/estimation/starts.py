"""Log-density ratios of Gaussians and of tables, each shrunk in its own way, as quadratic and bilinear forms."""

import math

import torch
from torch import Tensor

from remi.estimation.ratios import Forms

HIGHEST = 0.9999  # of a correlation
MIXED = (0.5, 0.8, 0.95)  # weights of the observed ratios beside independence
ADDED = (0.3, 1.0, 3.0)  # counts added to every cell and to what independence expects there
FLOOR = 0.2  # of a density ratio, in the table with few dimensions


# ---- Columns of numbers -------------------------------------------------------------------------------------------------


def gaussian_starts(x: Tensor, y: Tensor) -> list[Forms]:
    """The log-density ratio of Gaussians with the sample's correlations, shrunk in four ways.

    With canonical correlations s_k and whitened coordinates u, v,

        T = sum_k  [s_k u_k v_k - s_k^2 (u_k^2 + v_k^2) / 2] / (1 - s_k^2).

    Noise of size 1/sqrt(n) in each correlation adds up over all pairs of coordinates. James and Stein's factor suits
    dependence spread over all of them; shrinking each singular value suits dependence in a few directions; leaving out the
    columns without any correlation beyond noise suits dependence in a few columns of many. Where columns are so many that
    every direction of some rows is a correlation, directions from one half of the rows are weighed on the other half.

    Returns:
        (M, A, B, c, d) per way: T = x'My + x'Ax + y'By; c and d are 0.

    Source: Gavish and Donoho (2017) for the singular values; Fan and Lv (2008) for the columns; Ledoit and Wolf (2004) for
    the covariance of the halves.
    """
    x, y = (z.double() - z.double().mean(0) for z in (x, y))
    white_x, white_y = _whitening(x), _whitening(y)
    u, s, v = _directions(x, y, white_x, white_y)
    sizes = len(x), x.shape[1], y.shape[1]
    whole = [_forms(white_x @ u, shrunk(s, *sizes), white_y @ v) for shrunk in (stein, _single)]
    return [*whole, sparse_start(x, y), _halves(x, y)]


def _directions(x: Tensor, y: Tensor, white_x: Tensor, white_y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Canonical directions of the whitened coordinates, and their correlations."""
    u, s, vt = torch.linalg.svd(white_x.T @ (x.T @ y / len(x)) @ white_y, full_matrices=False)
    return u, s, vt.T


def shrunk_directions(xx: Tensor, xy: Tensor, yy: Tensor, n: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """Whitenings of x and of y, canonical directions, and their correlations by one factor, from the blocks of a scatter."""
    white_x, white_y = _root(xx), _root(yy)
    u, s, vt = torch.linalg.svd(white_x @ xy @ white_y, full_matrices=False)
    return (white_x, white_y), (white_x @ u, white_y @ vt.T), stein(s, n, len(xx), len(yy)).clamp(max=HIGHEST)


def stein(s: Tensor, n: float, dim_x: int, dim_y: int) -> Tensor:
    """All correlations s of so many columns shrunk by one factor."""
    return (1 - dim_x * dim_y / n / s.square().sum().clamp_min(1e-12)).clamp_min(0) * s


def _single(s: Tensor, n: float, dim_x: int, dim_y: int) -> Tensor:
    """Each correlation by itself."""
    small, large = sorted((dim_x, dim_y))
    scaled = (s * math.sqrt(n / large)).clamp_min(1e-12)
    ratio = small / large
    above = ((scaled.square() - ratio - 1).square() - 4 * ratio).clamp_min(0).sqrt() / scaled
    return torch.where(scaled > 1 + math.sqrt(ratio), above, 0.0) * math.sqrt(large / n)


def sparse_start(x: Tensor, y: Tensor) -> Forms:
    """Only columns with a correlation that the largest of so many noises would not reach."""
    left, s, right, used = sparse_directions(x, y)
    return _forms(left, stein(s, len(x), *used), right)


def sparse_directions(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """Canonical directions of these columns, a column each, their correlations, and how many columns of either side they use."""
    x, y = (z.double() - z.double().mean(0) for z in (x, y))
    correlations = (x / x.norm(dim=0).clamp_min(1e-12)).T @ (y / y.norm(dim=0).clamp_min(1e-12))
    beyond = correlations.abs() > math.sqrt(2 * math.log(max(2, correlations.numel())) / len(x))
    chosen_x, chosen_y = beyond.any(1), beyond.any(0)
    if not bool(beyond.any()):
        return x.new_zeros(x.shape[1], 1), x.new_zeros(1), y.new_zeros(y.shape[1], 1), (1, 1)
    few_x, few_y = x[:, chosen_x], y[:, chosen_y]
    white_x, white_y = _whitening(few_x), _whitening(few_y)
    u, s, v = _directions(few_x, few_y, white_x, white_y)
    left, right = x.new_zeros(x.shape[1], len(s)), y.new_zeros(y.shape[1], len(s))
    left[chosen_x], right[chosen_y] = white_x @ u, white_y @ v
    return left, s, right, (few_x.shape[1], few_y.shape[1])


def _halves(x: Tensor, y: Tensor) -> Forms:
    """Directions of all rows, with the correlations that directions of one half have on the other."""
    half = len(x) // 2
    found = []
    for here, there in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        white = _shrunk_whitening(x[here]), _shrunk_whitening(y[here])
        u, _, v = _directions(x[here], y[here], *white)
        p, q = x[there] @ (white[0] @ u), y[there] @ (white[1] @ v)
        p, q = p - p.mean(0), q - q.mean(0)
        found.append(torch.stack([(p * q).mean(0), p.square().mean(0), q.square().mean(0)]))
    covariance, spread_x, spread_y = torch.stack(found).mean(0)
    white_x, white_y = _shrunk_whitening(x), _shrunk_whitening(y)
    u, _, v = _directions(x, y, white_x, white_y)
    size_x, size_y = spread_x.sqrt().clamp_min(1e-12), spread_y.sqrt().clamp_min(1e-12)
    s = covariance / size_x / size_y
    s = torch.where(s > 2 / math.sqrt(len(x)), s, 0.0)
    return _forms(white_x @ u / size_x, s, white_y @ v / size_y)


def weights(s: Tensor) -> tuple[Tensor, Tensor]:
    """What a correlation s weighs u v by, and u^2 and v^2, in the log-density ratio of two normal coordinates."""
    return s / (1 - s.square()), -s.square() / (1 - s.square()) / 2


def _forms(left: Tensor, s: Tensor, right: Tensor) -> Forms:
    """T from directions, a column each, of unit variance."""
    cross, own = weights(s.clamp(max=HIGHEST))
    forms = (left * cross) @ right.T, (left * own) @ left.T, (right * own) @ right.T
    return *(form.float() for form in forms), left.new_zeros(len(left), 1).float(), right.new_zeros(len(right), 1).float()


def _whitening(z: Tensor) -> Tensor:
    """Inverse square root of the covariance of centred rows, for columns that may be copies of each other."""
    return _root(z.T @ z / len(z))


def _root(covariance: Tensor) -> Tensor:
    """The inverse square root, a little regularized."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors / (values.clamp_min(0) + 1e-4 * values.mean() + 1e-12).sqrt()) @ vectors.T


def _shrunk_whitening(z: Tensor) -> Tensor:
    """The same of the covariance as Ledoit and Wolf shrink it, for more columns than rows."""
    z = z - z.mean(0)
    n, d = z.shape
    covariance = z.T @ z / n
    mean = covariance.diagonal().mean()
    distance = covariance.square().sum() - d * mean.square()
    noise = (z.square().sum(1).square().sum() / n - covariance.square().sum()) / n
    share = (noise / distance.clamp_min(1e-12)).clamp(0, 1)
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors / ((1 - share) * values.clamp_min(0) + share * mean + 1e-12).sqrt()) @ vectors.T


# ---- Two discrete columns -----------------------------------------------------------------------------------------------


def table_starts(counts: Tensor, x: Tensor, y: Tensor) -> list[Forms]:
    """The log-density ratio of a table of counts N, smoothed in three ways.

    With what independence expects in a cell, e = N_x N_y / N,

        log(1 - w + w N/e)         which suits exact relations,
        log((N + a) / (e + a))     which trusts a cell as far as it has rows,

    and the log of 1 + sum_k s_k u_k v_k, the table of a few canonical dimensions, which suits an order among the levels.

    Args:
        counts: (levels of x, levels of y).
        x: (levels of x, levels of x - 1) the features of each level.
        y: the same of y.

    Returns:
        (M, A, B, c, d) per way: T = x'My + x'c + y'd up to a constant; A and B are 0.

    Source: DuMouchel (1999) for the second; Greenacre (2007) for the third.
    """
    counts = counts.double()
    n, rows, columns = counts.sum(), counts.sum(1, keepdim=True), counts.sum(0, keepdim=True)
    expected = rows * columns / n
    ratio = torch.where(expected > 0, counts / expected.clamp_min(1e-12), 1.0)  # an unseen level says nothing
    tables = [torch.log1p(w * (ratio - 1)) for w in MIXED]
    tables += [((counts + a) / (expected + a)).log() for a in ADDED]
    scale = (expected / n).sqrt().clamp_min(1e-6)
    u, s, vt = torch.linalg.svd((counts - expected) / n / scale, full_matrices=False)
    kept = _single(s, float(n), *counts.shape)
    few = 1 + (u * kept) @ vt / scale
    tables.append(few.clamp_min(FLOOR).log())
    basis = [torch.linalg.inv(torch.cat([torch.ones_like(z[:, :1]), z], 1).double()) for z in (x, y)]
    starts = []
    for table in tables:
        forms = basis[0] @ table @ basis[1].T
        own = [torch.zeros(z.shape[1], z.shape[1], device=z.device) for z in (x, y)]
        starts.append((forms[1:, 1:].float(), *own, forms[1:, :1].float(), forms[:1, 1:].T.float()))
    return starts


# ---- Two samples --------------------------------------------------------------------------------------------------------


def difference_start(p: Tensor, q: Tensor) -> Forms:
    """(A, b) of T = z'Az + z'b: the log-density ratio of two Gaussians with the samples' moments, up to a constant."""
    (mean_p, inverse_p), (mean_q, inverse_q) = _gaussian(p.double()), _gaussian(q.double())
    linear = inverse_p @ mean_p - inverse_q @ mean_q
    return ((inverse_q - inverse_p) / 2).float(), linear.float().unsqueeze(-1)


def _gaussian(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse covariance."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / len(z)
    ridge = 1e-3 * covariance.diagonal().mean() + 1e-12
    return z.mean(0), torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=z.dtype, device=z.device))
