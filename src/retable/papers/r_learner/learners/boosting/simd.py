"""Vectors of numbers as values within compiled functions: a bin of several covariates at once.

LLVM's own vectors, which numba does not offer. An operation on them is done for all lanes, in as
few instructions as the processor allows; the results in each lane are those of plain numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model


class Vector(types.Type):
    """``width`` numbers of double precision."""

    def __init__(self, width: int, item: ir.Type | None = None) -> None:
        self.width = width
        self.of = ir.VectorType(item or ir.DoubleType(), width)
        super().__init__(name=f"Vector({self.of})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is one value of LLVM's."""

    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.of)


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that compiled code calls: gives its types, and what LLVM is told to do."""
    return cast(Any, intrinsic)(function)


def _mask(vector: Vector) -> Vector:
    return Vector(vector.width, ir.IntType(1))


def _place(context: Any, builder: Any, array: Any, data: Any, k: Any, vector: Vector) -> Any:
    """Pointer to the vector that begins at item ``k`` of an array."""
    items = context.make_array(array)(context, builder, data).data
    return builder.bitcast(builder.gep(items, [k]), vector.of.as_pointer())


@_instruction
def load(_: Any, array: Any, _k: Any, lanes: Any) -> Any:
    """The vector at item ``_k`` of an array, as wide as the tuple ``lanes``."""
    vector = Vector(len(lanes))

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        place = _place(context, builder, array, args[0], args[1], vector)
        return builder.load(place, align=8)

    return vector(array, types.intp, lanes), emit


@_instruction
def store(_: Any, array: Any, _k: Any, vector: Any) -> Any:
    """Write a vector at item ``_k`` of an array."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        place = _place(context, builder, array, args[0], args[1], vector)
        builder.store(args[2], place, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@_instruction
def splat(_: Any, _value: Any, lanes: Any) -> Any:
    """A vector with ``_value`` in every lane."""
    vector = Vector(len(lanes))

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        empty = ir.Constant(vector.of, ir.Undefined)
        one = builder.insert_element(empty, args[0], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.width), [0] * vector.width)
        return builder.shuffle_vector(one, empty, zeros)

    return vector(types.float64, lanes), emit


@_instruction
def floor(_: Any, vector: Any) -> Any:
    """Greatest whole numbers below."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(vector.of, [vector.of])
        name = f"llvm.floor.v{vector.width}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return vector(vector), emit


@_instruction
def fused(_: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once or twice, whichever is quicker."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(a.of, [a.of] * 3)
        name = f"llvm.fmuladd.v{a.width}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return a(a, b, c), emit


@_instruction
def at_least(_: Any, left: Any, right: Any) -> Any:
    """Mask of the lanes with ``left >= right``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fcmp_ordered(">=", *args)

    return _mask(left)(left, right), emit


@_instruction
def choose(_: Any, mask: Any, left: Any, right: Any) -> Any:
    """``left`` where the mask is set, ``right`` elsewhere."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return left(mask, left, right), emit


@_instruction
def larger(_: Any, left: Any, right: Any) -> Any:
    """The larger number of each lane."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return left(left, right), emit


@_instruction
def some(_: Any, mask: Any) -> Any:
    """Whether a mask is set anywhere."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.width))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(mask), emit


def _operation(symbol: Callable[..., Any], name: str) -> None:
    """Let a Python operator on two vectors (or masks) be an instruction of LLVM's."""

    @_instruction
    def apply(_: Any, left: Any, right: Any) -> Any:
        def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return left(left, right), emit

    @overload(symbol, strict=False)
    def operate(left: Any, right: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
        if isinstance(left, Vector) and left == right:
            return lambda left, right: apply(left, right)
        return None


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.and_, "and_"),
):
    _operation(_symbol, _name)
