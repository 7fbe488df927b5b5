"""Problems with known mutual information: each draws its samples and states its true value and exact log-density ratio."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class OneHot:
    """X uniform on N symbols, Y = X: I(X; Y) = log N (Section 3)."""

    symbols: int = 16  # released code; the paper says N
    stratified: bool = False  # control: every marginal batch has exactly its expected number of diagonal pairs

    @property
    def dims(self) -> tuple[int, int]:
        """Width of x and of y."""
        return self.symbols, self.symbols

    def true_mi(self, step: int = 0) -> float:
        """Log N, in nats."""
        return math.log(self.symbols)

    def draw(self, generator: torch.Generator, first_step: int, steps: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Symbols x of the joint pairs (x, x) and u, v of the marginal pairs (u, v), (steps, batch) each."""
        x, u, v = torch.randint(self.symbols, (3, steps, batch), generator=generator, device=generator.device)
        if self.stratified:
            diagonal, remainder = divmod(batch, self.symbols)
            if remainder or not diagonal:
                raise ValueError(f"batch must be a multiple of symbols={self.symbols} to be stratified, got {batch}")
            others = torch.randint(1, self.symbols, (steps, batch), generator=generator, device=generator.device)
            others[:, -diagonal:] = 0  # last, so that the first pair, which is recorded, is as random as any
            v = (u + others) % self.symbols
        return x, u, v

    def encode(self, symbols: Tensor) -> Tensor:
        """(...) integers -> (..., N) one-hot vectors."""
        return one_hot(symbols, self.symbols).to(torch.get_default_dtype())

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """Log dP/dQ: log N on the diagonal, -inf off it."""
        return torch.where(x == y, math.log(self.symbols), -torch.inf)


@dataclass(frozen=True)
class GaussianStaircase:
    """Two `dim`-dimensional Gaussians, correlated coordinate by coordinate; the true value climbs during training (Section 5.3).

    y = rho x + sqrt(1 - rho^2) eps, so I = -dim/2 log(1 - rho^2).
    """

    steps_per_level: int
    dim: int = 20
    levels: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0, 10.0)  # nats; released code

    @property
    def dims(self) -> tuple[int, int]:
        """Width of x and of y."""
        return self.dim, self.dim

    def true_mi(self, step: int) -> float:
        """The level that training step `step` draws from, in nats."""
        return self.levels[min(step // self.steps_per_level, len(self.levels) - 1)]

    def rho(self, mi: float) -> float:
        """The correlation that gives `mi` nats."""
        return math.sqrt(1 - math.exp(-2 * mi / self.dim))

    def draw(self, generator: torch.Generator, first_step: int, steps: int, batch: int) -> tuple[Tensor, Tensor]:
        """Joint samples x and y, (steps, batch, dim) each."""
        x, noise = torch.randn((2, steps, batch, self.dim), generator=generator, device=generator.device)
        rho = torch.tensor([self.rho(self.true_mi(first_step + i)) for i in range(steps)], device=generator.device).view(-1, 1, 1)
        return x, rho * x + (1 - rho.square()).sqrt() * noise

    def log_ratio(self, x: Tensor, y: Tensor, mi: float) -> Tensor:
        """Log dP/dQ at pairs (..., dim) of the level `mi`."""
        rho = self.rho(mi)
        cross = (x * y).sum(-1) * rho - (x.square() + y.square()).sum(-1) * rho**2 / 2
        return mi + cross / (1 - rho**2)
