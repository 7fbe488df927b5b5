"""A step of small networks as a bare list of kernels: on a CPU what a CUDA graph is on a GPU."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

MEMORY_FORMATS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2}  # as the interpreter counts


class Recorder(TorchDispatchMode):
    """Writes down every kernel that is called, autograd's among them, as a program of TorchScript.

    Args:
        batch: the program's first arguments; the tensors that are there before it are the others, `held`.
    """

    def __init__(self, batch: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph: Any = torch._C.Graph()
        self.held: list[Tensor] = []
        self._known: dict[int, tuple[Tensor, Any]] = {}  # by identity, which lasts as long as the tensor
        for part in batch:
            self._know(part, self.graph.addInput())

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: there is nothing to compile, and the question imports the compiler, which takes seconds."""
        return False

    def _know(self, tensor: Tensor, name: Any) -> None:
        self._known[id(tensor)] = tensor, name

    def _named(self, value: Any, kind: Any) -> Any:
        """What stands for an argument in the program."""
        if isinstance(value, Tensor):
            if id(value) not in self._known:
                self.held.append(value.detach())
                self._know(value, self.graph.addInput())
            return self._known[id(value)][1]
        if isinstance(value, list | tuple) and "Tensor" in str(kind):
            parts = self.graph.create("prim::ListConstruct", [self._named(part, kind) for part in value], 1)
            parts.output().setType(kind)
            return self.graph.appendNode(parts).output()
        return self.graph.insertConstant(MEMORY_FORMATS[value] if isinstance(value, torch.memory_format) else value)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a kernel, and write it down."""
        schema, kwargs = func._schema, dict(kwargs or {})
        given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
        inputs = [self._named(given.get(a.name, a.default_value), a.type) for a in schema.arguments]
        node = self.graph.appendNode(self.graph.create(schema.name, inputs, len(schema.returns)))
        found = func(*args, **kwargs)
        results = found if len(schema.returns) > 1 else [found]
        for name, of, result in zip(node.outputs(), schema.returns, results, strict=False):  # some return nothing
            name.setType(of.type)
            if isinstance(result, Tensor):
                self._know(result, name)
            elif isinstance(result, list | tuple):
                for index, part in enumerate(result):
                    item = self.graph.create("aten::__getitem__", [name, self.graph.insertConstant(index)], 1)
                    self._know(part, self.graph.appendNode(item).output())
            elif result is not None:
                raise RuntimeError(f"a recorded step must not depend on values that Python sees; {schema.name} gives one")
        return found


def recorded(step: Callable[..., None], *batch: Tensor) -> Callable[..., None]:
    """The kernels that `step(*batch)` calls, in that order on the same tensors, without Python and autograd: equal to the bit.

    A step is a few hundred kernels of some microseconds each, and Python and autograd take longer to start one than it takes.
    Nothing is compiled: the interpreter of TorchScript starts the kernels, and leaves out those whose result is known, unused or
    there already.

    Args:
        step: it works in place on tensors that it holds; what it does must not depend on values that the host sees.
        batch: what it is recorded with; it counts as a step.

    Raises:
        RuntimeError: the step takes a number from a tensor to Python.
    """
    with Recorder(batch) as recorder:
        step(*batch)
    torch._C._jit_pass_cse(recorder.graph)  # what several losses ask of the same scores is computed once
    recorder.graph.registerOutput(recorder.graph.insertConstant(None))
    program, held = torch._C._create_function_from_graph("step", recorder.graph), recorder.held

    def again(*batch: Tensor) -> None:
        with torch.no_grad():
            program(*batch, *held)

    return again
