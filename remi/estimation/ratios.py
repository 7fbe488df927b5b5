"""Critics that begin at the log-density ratio of Gaussians and learn what departs from it, a stack of runs at once."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from remi.training import critics

Forms = tuple[Tensor, ...]
WIDTH, RANK, JOINED = 64, 32, 32  # of the default critic's networks
PAIRS = 2**19  # scores of a stack at a time, which bounds the memory


class QuadraticCritic(nn.Module):
    """T(x, y) = x'My + x'Ax + y'By + f(x) . g(y) + a(x) + b(y) + h(x, y), a stack of runs.

    The forms are the log-density ratio of Gaussians; the networks are what departs from it. For the separable ones all n^2
    pairs cost one matrix product; h, small and on pairs, draws the edges that they blur.
    """

    def __init__(self, dim_x: int, dim_y: int, runs: int) -> None:
        super().__init__()
        self.cross = critics.Linear(dim_x, dim_y, bias=False, runs=runs)
        self.own_x = critics.Linear(dim_x, dim_x, bias=False, runs=runs)
        self.own_y = critics.Linear(dim_y, dim_y, bias=False, runs=runs)
        self.net_x = critics.mlp([dim_x, WIDTH, WIDTH, RANK + 1], runs=runs)
        self.net_y = critics.mlp([dim_y, WIDTH, WIDTH, RANK + 1], runs=runs)
        self.joined = critics.ConcatCritic(dim_x, dim_y, [JOINED, JOINED], runs=runs)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(runs, n, dim_x) and (runs, n, dim_y) -> (runs, n): each x with its own y."""
        (f, a), (g, b) = self._halves(x, y)
        return (f * g).sum(-1) + a + b + self.joined(x, y)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(runs, n, dim_x) and (runs, m, dim_y) -> (runs, n, m): row i is anchored at x_i."""
        (f, a), (g, b) = self._halves(x, y)
        rows = max(1, PAIRS // (len(y) * y.shape[-2]))
        joined = torch.cat([self.joined.matrix(part, y) for part in x.split(rows, -2)], -2)
        return f @ g.transpose(-1, -2) + a.unsqueeze(-1) + b.unsqueeze(-2) + joined

    def _halves(self, x: Tensor, y: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        hidden_x, hidden_y = self.net_x(x), self.net_y(y)
        f, g = torch.cat([self.cross(x), hidden_x[..., :-1]], -1), torch.cat([y, hidden_y[..., :-1]], -1)
        return (f, (x * self.own_x(x)).sum(-1) + hidden_x[..., -1]), (g, (y * self.own_y(y)).sum(-1) + hidden_y[..., -1])

    def forms(self) -> Forms:
        """The quadratic part's coefficients, to be set by a start."""
        return self.cross.weight.data, self.own_x.weight.data, self.own_y.weight.data

    def begin(self, generators: Sequence[torch.Generator]) -> None:
        """Random networks that add nothing yet."""
        critics.initialize(self, generators)
        for form in self.forms():
            form.zero_()
        for values in (self.net_x[-1].weight, self.net_x[-1].bias, self.net_y[-1].weight, self.net_y[-1].bias):
            assert isinstance(values, Tensor)
            values.data[..., -1] = 0  # a and b
        for values in (*self.net_x[-1].parameters(), *self.joined.rest[-1].parameters()):
            values.data.zero_()  # f . g and h

    def shift(self, amount: Tensor) -> None:
        """Add a constant (runs,) to T."""
        assert isinstance(self.net_x[-1].bias, Tensor)
        self.net_x[-1].bias.data[..., 0, -1] += amount


class RatioCritic(nn.Module):
    """T(z) = z'Az + z'b + h(z), a stack of runs."""

    def __init__(self, dim: int, runs: int) -> None:
        super().__init__()
        self.own = critics.Linear(dim, dim, bias=False, runs=runs)
        self.linear = critics.Linear(dim, 1, bias=False, runs=runs)
        self.net = critics.mlp([dim, WIDTH, WIDTH, 1], runs=runs)

    def forward(self, z: Tensor) -> Tensor:
        """(runs, n, dim) -> (runs, n)."""
        return (z * self.own(z)).sum(-1) + (self.linear(z) + self.net(z)).squeeze(-1)

    def forms(self) -> Forms:
        """The quadratic part's coefficients, to be set by a start."""
        return self.own.weight.data, self.linear.weight.data

    def begin(self, generators: Sequence[torch.Generator]) -> None:
        """A random network that adds nothing yet."""
        critics.initialize(self, generators)
        for form in (*self.forms(), *(p.data for p in self.net[-1].parameters())):
            form.zero_()

    def shift(self, amount: Tensor) -> None:
        """Add a constant (runs,) to T."""
        assert isinstance(self.net[-1].bias, Tensor)
        self.net[-1].bias.data[..., 0, 0] += amount


def dependence_starts(x: Tensor, y: Tensor) -> list[Forms]:
    """The log-density ratio of Gaussians with the sample's correlations, shrunk in two ways.

    With canonical correlations s_k and whitened coordinates u, v,

        T = sum_k  [s_k u_k v_k - s_k^2 (u_k^2 + v_k^2) / 2] / (1 - s_k^2).

    Noise of size 1/sqrt(n) in each correlation adds up over all pairs of coordinates. James and Stein's factor suits
    dependence spread over all of them; shrinking each singular value suits dependence in a few.

    Returns:
        (M, A, B) per way: T = x'My + x'Ax + y'By.

    Source: Gavish and Donoho (2017) for the singular values.
    """
    x, y = x.double(), y.double()
    n, small, large = len(x), *sorted((x.shape[1], y.shape[1]))
    white_x, white_y = _whitening(x), _whitening(y)
    u, s, vt = torch.linalg.svd(white_x @ ((x - x.mean(0)).T @ (y - y.mean(0)) / n) @ white_y, full_matrices=False)
    stein = (1 - small * large / (n * s.square().sum()).clamp_min(1e-12)).clamp_min(0) * s
    scaled = (s * math.sqrt(n / large)).clamp_min(1e-12)
    ratio = small / large
    above = ((scaled.square() - ratio - 1).square() - 4 * ratio).clamp_min(0).sqrt() / scaled
    single = torch.where(scaled > 1 + math.sqrt(ratio), above, 0.0) * math.sqrt(large / n)
    starts = []
    for correlations in (stein, single):
        rho = correlations.clamp(max=0.9999)
        cross, own = rho / (1 - rho.square()), -rho.square() / (1 - rho.square()) / 2
        left, right = white_x @ u, white_y @ vt.T
        forms = (left * cross) @ right.T, (left * own) @ left.T, (right * own) @ right.T
        starts.append(tuple(form.float() for form in forms))
    return starts


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


def _whitening(z: Tensor) -> Tensor:
    """Inverse square root of the covariance, for columns that may be copies of each other."""
    centred = z - z.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(z))
    return (vectors / (values.clamp_min(0) + 1e-4 * values.mean() + 1e-12).sqrt()) @ vectors.T
