"""TensorProto ↔ numpy, written as TensorFlow Serving does: in the typed fields that every client can read."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DataType

from serving.errors import InvalidInput

# A proto may state a shape of any size and give one value to fill it with; this bounds what that may cost.
MAX_FILLED_ELEMENTS = 1 << 20
AT_A_TIME = 1 << 15  # values: between two such parts other threads have their turn

_FIELDS = {
    dtype.as_datatype_enum: (np.dtype(dtype.as_numpy_dtype), field)
    for dtype, field in {
        tf.float32: "float_val",
        tf.float64: "double_val",
        tf.int8: "int_val",
        tf.int16: "int_val",
        tf.int32: "int_val",
        tf.uint8: "int_val",
        tf.int64: "int64_val",
        tf.uint32: "uint32_val",
        tf.uint64: "uint64_val",
        tf.bool: "bool_val",
        tf.string: "string_val",
    }.items()
}
_NUMBERS = {numpy_dtype: number for number, (numpy_dtype, _) in _FIELDS.items()}
_STRING = tf.string.as_datatype_enum
_DTYPES = frozenset(DataType.values()) - {DataType.DT_INVALID}


def to_proto(value: np.ndarray, proto: TensorProto | None = None) -> TensorProto:
    """Any shape → the same shape, in `proto` where one is given; text is written as UTF-8."""
    number = _STRING if value.dtype.kind in "OSU" else _NUMBERS.get(value.dtype)
    proto = TensorProto() if proto is None else proto
    if number is None:
        proto.CopyFrom(tf.make_tensor_proto(value))
        return proto
    proto.dtype = number
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    written, flat = getattr(proto, _FIELDS[number][1]), value.ravel()
    for begin in range(0, len(flat), AT_A_TIME):
        values = flat[begin : begin + AT_A_TIME].tolist()
        if number == _STRING:
            values = [item.encode() if isinstance(item, str) else item for item in values]
        written.extend(values)
    return proto


def from_proto(name: str, proto: TensorProto) -> np.ndarray:
    """The same shape; strings as bytes in an object array.

    Raises InvalidInput for a proto that makes no sense.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise InvalidInput(f'input "{name}": the shape of a tensor must be fully known')
    if proto.dtype not in _DTYPES:
        raise InvalidInput(f'input "{name}": unknown dtype {proto.dtype}')
    numpy_dtype, field = _FIELDS.get(proto.dtype, (None, ""))
    values = getattr(proto, field) if field else ()
    elements, given = math.prod(sizes), len(values)
    is_filled = not proto.tensor_content and given < elements
    if is_filled and elements > MAX_FILLED_ELEMENTS:
        raise InvalidInput(f'input "{name}": shape {sizes} states {elements} values, {given} are given')
    try:
        if field and given == elements and not proto.tensor_content:
            return np.array(values, numpy_dtype).reshape(sizes)  # as make_ndarray, in a third of its time
        return np.asarray(tf.make_ndarray(proto))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f'input "{name}": its values do not fill the shape {sizes}') from error
    except KeyError as error:
        raise InvalidInput(f'input "{name}": dtype {proto.dtype} has no values that can be sent') from error
