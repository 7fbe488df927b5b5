"""A critic of one's own, an ordinary module, as a stack of independent runs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from remi.training import critics

PAIRS = 2**19  # scores of a stack at a time, which bounds the memory


class AllPairs(nn.Module):
    """A critic on pairs, asked for the pairs or for all pairs."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, *inputs: Tensor, matrix: bool) -> Tensor:
        """(n, ...) each -> (n,), or (n, m)."""
        if not matrix:
            return self.critic(*inputs)
        if hasattr(self.critic, "matrix"):
            return self.critic.matrix(*inputs)  # type: ignore[operator]
        x, y = inputs
        rows = max(1, PAIRS // len(y))
        return torch.cat(
            [
                self.critic(part.repeat_interleave(len(y), 0), y.repeat(len(part), 1)).unflatten(0, (len(part), len(y)))
                for part in x.split(rows)
            ]
        )


class Copies(nn.Module):
    """A stack of runs from one ordinary module; each run starts where the module stands, which stays as it is.

    In training its parts are in the modes in which they were given; where rows are read, all are in evaluation mode, so that
    Dropout draws nothing and BatchNorm takes what it has learned.
    """

    def __init__(self, module: nn.Module, runs: int, device: torch.device) -> None:
        super().__init__()
        self.shell = [AllPairs(module)]  # a list hides it from `parameters()`
        self.modes = [(part, part.training) for part in module.modules()]
        state = {name: p for name, p in self.shell[0].named_parameters() if p.requires_grad}
        self.names = list(state)
        self.stack = nn.ParameterList(p.detach().to(device, torch.float32).expand(runs, *p.shape).clone() for p in state.values())
        fixed = [*self.shell[0].named_parameters(), *self.shell[0].named_buffers()]
        rest = {name: value.detach() for name, value in fixed if name not in state}
        self.others = list(rest)
        for index, value in enumerate(rest.values()):
            kind = torch.float32 if value.is_floating_point() else value.dtype
            self.register_buffer(f"other{index}", value.to(device, kind).expand(runs, *value.shape).clone())

    def train(self, mode: bool = True) -> "Copies":
        """The modes in which the module was given, or evaluation."""
        for part, given in self.modes:
            part.training = given and mode
        return self

    def forward(self, *inputs: Tensor, matrix: bool = False) -> Tensor:
        """(runs, n, ...) each -> (runs, n), or (runs, n, m)."""
        runs = []
        for r in range(inputs[0].shape[0]):
            own = {name: p[r] for name, p in zip(self.names, self.stack, strict=True)}
            rest = {name: self.get_buffer(f"other{index}")[r] for index, name in enumerate(self.others)}
            runs.append(torch.func.functional_call(self.shell[0], own | rest, tuple(x[r] for x in inputs), {"matrix": matrix}))
        return torch.stack(runs)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """All pairs."""
        return self(x, y, matrix=True)


def copies(critic: object, inputs: Sequence[Tensor], runs: int) -> Copies:
    """A stack of copies of the user's critic, tried once.

    Raises:
        ValueError: not a module or a pair of encoders, nothing to train, or an output that is not a score per row.
    """
    two = len(inputs) == 2
    wanted = "an nn.Module on pairs (x, y) -> (n,), or a pair of encoders" if two else "an nn.Module on rows z -> (n,)"
    if two and isinstance(critic, tuple | list) and len(critic) == 2 and all(isinstance(part, nn.Module) for part in critic):
        critic = critics.SeparableCritic(*critic)
    if not isinstance(critic, nn.Module):
        raise ValueError(f"critic must be {wanted}; got {critic!r}")
    stack = Copies(critic, runs, inputs[0].device).eval()
    if not stack.names:
        raise ValueError(f"critic must have parameters to train; got {type(critic).__name__} with none")
    shapes = " and ".join(str(tuple(z[:3].shape)) for z in inputs)
    try:
        found = stack(*(z[:3].expand(runs, -1, -1) for z in inputs))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(f"critic must be {wanted}; on float32 inputs {shapes} it failed: {error}") from None
    if found.shape != (runs, 3) or not found.is_floating_point():
        raise ValueError(f"critic must be {wanted}; on inputs {shapes} it returned {tuple(found.shape[1:])} of {found.dtype}")
    unused = torch.autograd.grad(found.sum(), list(stack.stack), allow_unused=True) if found.requires_grad else [None]
    idle = [name.removeprefix("critic.") for name, gradient in zip(stack.names, unused, strict=False) if gradient is None]
    if idle:
        raise ValueError(f"critic must use every parameter that requires a gradient; it does not use {', '.join(idle)}")
    return stack
