"""A step of small networks as a bare list of kernels: on a CPU what a CUDA graph is on a GPU."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

MEMORY_FORMATS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2}  # as the interpreter counts


def recorded(step: Callable[..., None], *batch: Tensor) -> Callable[..., None]:
    """The kernels that `step(*batch)` calls, in that order on the same tensors, without Python and autograd: equal to the bit.

    A step is a few hundred kernels of some microseconds each, and Python and autograd take longer to start one than it takes.
    Nothing is compiled: the interpreter of TorchScript starts the kernels, and leaves out those whose result is known or unused.

    Args:
        step: it works in place on tensors that it holds; what it does must not depend on values that the host sees.
        batch: what it is recorded with; it counts as a step.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # here: slow to import

    kernels = make_fx(step)(*batch)
    graph: Any = torch._C.Graph()
    held: list[Tensor] = []
    values: dict[fx.Node, Any] = {}

    def value(of: Any, kind: Any) -> Any:
        if isinstance(of, fx.Node):
            return values[of]
        if isinstance(of, list) and "Tensor" in str(kind):
            parts = graph.create("prim::ListConstruct", [value(part, kind) for part in of], 1)
            parts.output().setType(kind)
            return graph.appendNode(parts).output()
        return graph.insertConstant(MEMORY_FORMATS.get(of, of) if isinstance(of, torch.memory_format) else of)

    for node in kernels.graph.nodes:
        if node.op == "placeholder":
            values[node] = graph.addInput()
    for node in kernels.graph.nodes:
        if node.op == "get_attr":  # an argument, since the interpreter may take anything else for a constant
            held.append(getattr(kernels, node.target).detach())
            values[node] = graph.addInput()
        elif node.op == "call_function" and node.target is operator.getitem:
            whole, index = values[node.args[0]], node.args[1]
            if isinstance(whole, list):
                values[node] = whole[index]
            else:
                values[node] = graph.appendNode(
                    graph.create("aten::__getitem__", [whole, graph.insertConstant(index)], 1)
                ).output()
        elif node.op == "call_function":
            schema = node.target._schema
            given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | node.kwargs
            inputs = [value(given.get(a.name, a.default_value), a.type) for a in schema.arguments]
            made = graph.appendNode(graph.create(schema.name, inputs, len(schema.returns)))
            for output, result in zip(made.outputs(), schema.returns, strict=True):
                output.setType(result.type)
            values[node] = made.output() if len(schema.returns) == 1 else list(made.outputs())
    graph.registerOutput(graph.insertConstant(None))
    program = torch._C._create_function_from_graph("step", graph)

    def again(*batch: Tensor) -> None:
        with torch.no_grad():
            program(*batch, *held)

    return again
