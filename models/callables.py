"""Functions of SavedModels that have no signature, as onnx2tf and plain tf.saved_model.save write.

Read from the object graph, so nothing is loaded. A function may hold several traces, one for each
way in which it was called; the one that asks for least and takes most shapes stands for all.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

Call = Literal["signature", "positional", "keyword"]
_PLAIN = ("none_value", "bool_value", "int64_value", "float64_value", "string_value")
ITSELF = "__call__"  # stands for the loaded object, where the object is the function


@dataclasses.dataclass(frozen=True)
class Trace:
    """One way of calling a function: inputs and outputs as (name, tensor spec)."""

    call: Call
    inputs: tuple[tuple[str, Any], ...]
    outputs: tuple[tuple[str, Any], ...]
    constants: int  # arguments that are no tensors and are on, such as training=True
    positional: tuple[str, ...] = ()  # names of those inputs that go by position
    trailing: tuple[Any, ...] = ()  # arguments after them that are no tensors, as traced

    def rank(self) -> tuple[int, int, int, str]:
        """Sorts the trace to use first; the stored order says nothing."""
        dims = [d.size for _, spec in self.inputs for d in spec.shape.dim]
        free = sum(size < 0 for size in dims)
        return len(self.inputs), self.constants, -free, str(self.inputs)


def functions(graph: Any) -> dict[str, Trace]:
    """Functions of a MetaGraphDef's root object that take and give plain tensors, by name."""
    objects = graph.object_graph_def
    if not objects.nodes:
        return {}
    root = objects.nodes[0]
    found = {child.local_name: child.node_id for child in root.children}
    nodes = {n: objects.nodes[i] for n, i in found.items() if 0 <= i < len(objects.nodes)}
    named = {name: node for name, node in nodes.items() if not name.startswith("_")}
    best = {}
    for name, node in {**named, ITSELF: nodes.get(ITSELF, root)}.items():
        traces = [trace for key in _keys(node) for trace in _traces(objects, key)]
        if traces:
            best[name] = min(traces, key=Trace.rank)
    return best


def caller(
    loaded: Any, name: str, positional: Sequence[str], trailing: Sequence[Any] = ()
) -> Callable[..., Mapping[str, Any]]:
    """A function that takes its tensors by name and gives named tensors, as signatures do.

    Args:
        positional: names of the tensors that go by position.
        trailing: what goes after them, such as training=False, which may have no default.

    Raises:
        AttributeError: the loaded model has no such function.
    """

    def find() -> Any:
        return loaded if name == ITSELF else getattr(loaded, name)

    def named(**tensors: Any) -> Mapping[str, Any]:
        function = find()  # anew, so that `loaded` lives: functions hold variables weakly
        first = [tensors.pop(name) for name in positional]
        answer = function(*first, *trailing, **tensors)
        if isinstance(answer, Mapping):
            return answer
        several = answer if isinstance(answer, (tuple, list)) else [answer]
        return {_output(i): value for i, value in enumerate(several)}

    find()
    return named


def _output(index: int) -> str:
    return f"output_{index}"


def _keys(node: Any) -> list[str]:
    kind = node.WhichOneof("kind")
    if kind == "function":
        return list(node.function.concrete_functions)
    return [node.bare_concrete_function.concrete_function_name] * (kind == "bare_concrete_function")


def _traces(objects: Any, key: str) -> Iterator[Trace]:
    if key not in objects.concrete_functions:
        return
    concrete = objects.concrete_functions[key]
    arguments = concrete.canonicalized_input_signature.tuple_value.values
    if len(arguments) != 2:  # (positional, by keyword)
        return
    positional = list(arguments[0].tuple_value.values)
    keyword = dict(arguments[1].dict_value.fields)
    first = [(f"input_{i}", value) for i, value in enumerate(positional)]
    inputs = [(_spec(v).name or name, _spec(v)) for name, v in first if _spec(v) is not None]
    by_name = [(name, _spec(v)) for name, v in sorted(keyword.items()) if _spec(v) is not None]
    outputs = list(_outputs(concrete.output_signature))
    values = [*positional, *keyword.values()]
    nested = any(
        v.WhichOneof("kind") in ("tuple_value", "list_value", "dict_value") for v in values
    )
    if not (inputs or by_name) or nested or any(spec is None for _, spec in outputs):
        return
    if any(_spec(v) is None for v in positional[: len(inputs)]):  # f(flag, image)
        return
    rest = positional[len(inputs) :]
    constants = sum(v.bool_value for v in values if v.WhichOneof("kind") == "bool_value")
    yield Trace(
        "positional" if inputs else "keyword",
        (*inputs, *by_name),
        tuple(outputs),
        constants,
        tuple(name for name, _ in inputs),
        tuple(map(_plain, rest)) if all(v.WhichOneof("kind") in _PLAIN for v in rest) else (),
    )


def _outputs(value: Any) -> Iterator[tuple[str, Any]]:
    kind = value.WhichOneof("kind")
    if kind == "dict_value":
        yield from ((name, _spec(v)) for name, v in sorted(value.dict_value.fields.items()))
    elif kind in ("tuple_value", "list_value"):
        several = getattr(value, kind).values
        yield from ((_output(i), _spec(v)) for i, v in enumerate(several))
    else:
        yield _output(0), _spec(value)


def _plain(value: Any) -> Any:
    """The Python value of a StructuredValue of one of the _PLAIN kinds."""
    kind = value.WhichOneof("kind")
    return None if kind == "none_value" else getattr(value, kind)


def _spec(value: Any) -> Any:
    """The TensorSpec proto (name, shape, dtype) in a StructuredValue, or None."""
    kind = value.WhichOneof("kind")
    if kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        return getattr(value, kind)
    return None
