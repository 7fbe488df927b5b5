"""Critics that begin at Gaussians' log-density ratio and learn what departs from it, a stack of runs at once."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from remi.training import critics

Forms = tuple[Tensor, ...]
WIDTH, RANK = 64, 32  # of the default critic's networks
FARTHEST = 3.0  # standard deviations of a distance


class QuadraticCritic(nn.Module):
    """T(x, y) = x'My + x'Ax + y'By + x'c + y'd + r(x) x'Uy + x'Vy r(y) + f(x) . g(y) + a(x) + b(y), a stack of runs.

    The forms are the log-density ratio of Gaussians, or any table over the levels of two discrete columns. What departs from
    it are directions that turn with the distance r, see `distance`, and networks, which see it as one more column. All n^2
    pairs cost one matrix product.
    """

    def __init__(self, dim_x: int, dim_y: int, runs: int) -> None:
        super().__init__()
        self.cross = critics.Linear(dim_x, dim_y, bias=False, runs=runs)
        self.own_x = critics.Linear(dim_x, dim_x, bias=False, runs=runs)
        self.own_y = critics.Linear(dim_y, dim_y, bias=False, runs=runs)
        self.turn_x = critics.Linear(dim_x, dim_y, bias=False, runs=runs)
        self.turn_y = critics.Linear(dim_x, dim_y, bias=False, runs=runs)
        self.net_x = critics.mlp([dim_x + 1, WIDTH, WIDTH, RANK + 1], runs=runs)
        self.net_y = critics.mlp([dim_y + 1, WIDTH, WIDTH, RANK + 1], runs=runs)
        self.line_x = critics.Linear(dim_x, 1, bias=False, runs=runs)
        self.line_y = critics.Linear(dim_y, 1, bias=False, runs=runs)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(runs, n, dim_x) and (runs, n, dim_y) -> (runs, n): each x with its own y."""
        f, g = self._sides(x, y)
        return (f * g).sum(-1)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(runs, n, dim_x) and (runs, m, dim_y) -> (runs, n, m): row i is anchored at x_i."""
        f, g = self._sides(x, y)
        return f @ g.transpose(-1, -2)

    def _sides(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What x and y bring to T, an inner product of the two; a and b stand beside ones."""
        far_x, far_y = distance(x), distance(y)
        hidden_x, hidden_y = self.net_x(torch.cat([x, far_x], -1)), self.net_y(torch.cat([y, far_y], -1))
        a = (x * self.own_x(x)).sum(-1, keepdim=True) + self.line_x(x) + hidden_x[..., -1:]
        b = (y * self.own_y(y)).sum(-1, keepdim=True) + self.line_y(y) + hidden_y[..., -1:]
        f = [self.cross(x) + self.turn_x(far_x * x), self.turn_y(x), hidden_x[..., :-1], a, torch.ones_like(a)]
        g = [y, far_y * y, hidden_y[..., :-1], torch.ones_like(b), b]
        return torch.cat(f, -1), torch.cat(g, -1)

    def forms(self) -> Forms:
        """The quadratic part's coefficients M, A, B, c and d, to be set by a start."""
        parts = (self.cross, self.own_x, self.own_y, self.line_x, self.line_y)
        return tuple(part.weight.data for part in parts)

    def begin(self, generators: Sequence[torch.Generator]) -> None:
        """Random networks that add nothing yet."""
        critics.initialize(self, generators)
        for form in (*self.forms(), self.turn_x.weight.data, self.turn_y.weight.data):
            form.zero_()
        for values in (self.net_x[-1].weight, self.net_x[-1].bias, self.net_y[-1].weight, self.net_y[-1].bias):
            assert isinstance(values, Tensor)
            values.data[..., -1] = 0  # a and b
        for values in self.net_x[-1].parameters():
            values.data.zero_()  # f . g

    def shift(self, amount: Tensor) -> None:
        """Add a constant (runs,) to T."""
        assert isinstance(self.net_x[-1].bias, Tensor)
        self.net_x[-1].bias.data[..., 0, -1] += amount


def distance(z: Tensor) -> Tensor:
    """(..., d) standardized columns -> (..., 1) their squared length, standardized as that of independent normal ones."""
    d = z.shape[-1]
    return ((z.square().sum(-1, keepdim=True) - d) / math.sqrt(2 * d)).clamp(-FARTHEST, FARTHEST)


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
