"""What the caller has switched on in PyTorch and NumPy does not reach the estimate, and is as it was afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(device: torch.device, seed: int, critic: object) -> Iterator[None]:
    """Gradients on, float32, no autocast, full precision, a seeded generator, no floating-point alarms.

    Numbers below 1e-38 are 0 meanwhile: exp T of hopeless pairs would slow every step down. A critic of the caller's is in its
    own modes again afterwards.

    Args:
        device: where the critics are.
        seed: of PyTorch's global generator, from which a critic's Dropout draws.
        critic: the caller's, a module or several, or None.
    """
    parts = critic if isinstance(critic, Sequence) else [critic]
    modes = [(module, module.training) for part in parts if isinstance(part, nn.Module) for module in part.modules()]
    default, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    denormal = float(torch.tensor([1e-38], dtype=torch.float32, device="cpu") / 10) == 0
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # a mode that looks at every call of PyTorch's
            stack.enter_context(torch.device("cpu"))
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        stack.enter_context(np.errstate(all="ignore"))
        try:
            torch.set_default_dtype(torch.float32)
            torch.set_float32_matmul_precision("highest")
            torch.set_flush_denormal(True)
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_default_dtype(default)
            torch.set_float32_matmul_precision(precision)
            torch.set_flush_denormal(denormal)
            for module, mode in modes:
                module.training = mode
