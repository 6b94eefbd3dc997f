"""JSON ↔ tensors by the rules of TensorFlow Serving's REST API (tensorflow/serving, g3doc/api_rest.md).

Row form: `{"instances": [...]}` → `{"predictions": [...]}`. Column form: `{"inputs": ...}` → `{"outputs":
...}`. With one named input (or output) its name may be left out (is left out). Bytes are `{"b64": "…"}`; an
output that carries bytes has a name that ends in `_bytes`. NaN, Infinity and -Infinity are allowed, as there.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from serving.errors import InvalidInput
from serving.signature import Arrays, Signature, TensorSpec

ORJSON_DTYPES = tuple(map(np.dtype, (np.float32, np.float64, np.int32, np.int64, np.bool_)))


@dataclass(frozen=True)
class PredictBody:
    """A parsed request: which signature, which of the two forms, and the JSON under its key."""

    signature_name: str
    is_row_form: bool
    content: Any

    def read_inputs(self, signature: Signature) -> Arrays:
        """The inputs as arrays of the signature's dtypes. Raises InvalidInput."""
        if self.is_row_form:
            return _from_rows(self.content, signature)
        return _from_columns(self.content, signature)

    def write_outputs(self, outputs: Mapping[str, np.ndarray]) -> bytes:
        """The response, in the form of the request. Raises InvalidInput for outputs that have no rows."""
        is_finite = all(value.dtype.kind != "f" or np.isfinite(value).all() for value in outputs.values())
        columns = {name: _to_json(name, value, is_finite) for name, value in outputs.items()}
        if not self.is_row_form:
            content: Any = columns if len(columns) > 1 else next(iter(columns.values()))
            return _dump({"outputs": content}, is_finite)
        sizes = {name: value.shape[0] if value.ndim else None for name, value in outputs.items()}
        if None in sizes.values() or len(set(sizes.values())) > 1:
            raise InvalidInput(f"outputs have no common batch size, use the columnar format; they have {sizes}")
        if len(columns) == 1:
            return _dump({"predictions": next(iter(columns.values()))}, is_finite)
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return _dump({"predictions": rows}, is_finite)


def parse_body(body: bytes) -> PredictBody:
    """Reads the body of a `:predict` request. Raises InvalidInput that says what is wrong with it."""
    if not body:
        raise InvalidInput("JSON Parse error: The document is empty")
    try:
        document = _parse(body)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"JSON Parse error: not UTF-8 at offset: {error.start}") from error
    except json.JSONDecodeError as error:
        raise InvalidInput(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
        raise InvalidInput("JSON Parse error: a number or a nesting is beyond all measure") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"JSON Value: {_show(document)} Is not object")
    signature_name = document.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise InvalidInput("not formatted correctly. 'signature_name' key must be a string value.")
    forms = [key for key in ("instances", "inputs") if key in document]
    if len(forms) == 2:
        raise InvalidInput("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if not forms:
        raise InvalidInput("Missing 'inputs' or 'instances' key")
    content = document[forms[0]]
    if forms == ["instances"]:
        if not isinstance(content, list):
            raise InvalidInput(f"JSON Value: {_show(content)} Expecting 'instances' to be an list/array")
        if not content:
            raise InvalidInput("No values in 'instances' array")
    return PredictBody(signature_name, forms == ["instances"], content)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # it does not know NaN and Infinity, nor where the standard library sees the error
        return json.loads(body.decode("utf-8"))


def _from_rows(rows: list[Any], signature: Signature) -> Arrays:
    if not _is_named(rows[0]):
        spec = _only_input(signature, "instances is a plain list, but expecting list of objects")
        for index, row in enumerate(rows):
            if _is_named(row):
                raise InvalidInput(f"Expecting value/list but got object at item {index} of input list")
        return {spec.name: _tensor(rows, spec)}
    for index, row in enumerate(rows):
        if not _is_named(row):
            raise InvalidInput(f"Expecting object but got list at item {index} of input list")
        if set(row) != set(signature.inputs):
            raise InvalidInput(
                f"Failed to process element: {index} of 'instances' list. JSON object: {_show(row)} "
                f"keys must be equal to: {','.join(sorted(signature.inputs))}"
            )
    return {name: _tensor([row[name] for row in rows], spec) for name, spec in signature.inputs.items()}


def _from_columns(content: Any, signature: Signature) -> Arrays:
    if not _is_named(content):
        spec = _only_input(signature, "inputs is a plain value/list, but expecting an object")
        return {spec.name: _tensor(content, spec)}
    for name in signature.inputs:
        if name not in content:
            raise InvalidInput(f"Missing named input: {name} in 'inputs' object.")
    # TensorFlow Serving drops unknown names in silence; a misspelt input is worth an error.
    for name in content:
        if name not in signature.inputs:
            raise InvalidInput(f"JSON object: does not have named input: {name}")
    return {name: _tensor(content[name], spec) for name, spec in signature.inputs.items()}


def _only_input(signature: Signature, problem: str) -> TensorSpec:
    if len(signature.inputs) != 1:
        raise InvalidInput(
            f"{problem} as multiple input tensors required as per tensorinfo_map: {','.join(sorted(signature.inputs))}"
        )
    return next(iter(signature.inputs.values()))


def _is_named(value: Any) -> bool:
    """Whether this is an object of named tensors, and not `{"b64": …}`."""
    return isinstance(value, dict) and not (set(value) == {"b64"} and isinstance(value["b64"], str))


def _tensor(value: Any, spec: TensorSpec) -> np.ndarray:
    """Nested lists → an array of their shape.

    Raises InvalidInput where they are ragged or of another type.
    """
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    leaves: list[Any] = [value]
    for size in shape:
        for item in leaves:
            if not isinstance(item, list) or len(item) != size:
                got = f"size: {len(item)}" if isinstance(item, list) else f"value: {_show(item)}"
                raise InvalidInput(f'input "{spec.name}": Encountered {got} where a list of {size} is expected')
        leaves = [inner for item in leaves for inner in item]
    array = np.empty(len(leaves), dtype=spec.numpy_dtype)
    for index, leaf in enumerate(leaves):
        array[index] = _scalar(leaf, spec)
    return array.reshape(shape)


def _scalar(value: Any, spec: TensorSpec) -> Any:
    kind = spec.numpy_dtype.kind
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "O":
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError as error:
                raise InvalidInput(f'input "{spec.name}": a string has half of a surrogate pair') from error
        if isinstance(value, dict) and not _is_named(value):
            try:
                return base64.b64decode(value["b64"], validate=True)
            except (binascii.Error, ValueError) as error:
                raise InvalidInput(f'input "{spec.name}": Unable to base64 decode') from error
    elif kind == "b" and isinstance(value, bool):
        return value
    elif kind in "iu" and is_number and isinstance(value, int):
        if np.iinfo(spec.numpy_dtype).min <= value <= np.iinfo(spec.numpy_dtype).max:
            return value
    elif kind == "f" and is_number:
        if isinstance(value, float) and not np.isfinite(value):
            return value
        if abs(value) <= float(np.finfo(spec.numpy_dtype).max):
            return value
        raise InvalidInput(f"Cannot convert JSON value: {_show(value)} to {spec} without loss of precision.")
    raise InvalidInput(
        f'input "{spec.name}": JSON Value: {_show(value)} Type: {type(value).__name__} '
        f"is not of expected type: {spec.dtype_name}"
    )


def _to_json(name: str, value: np.ndarray, is_finite: bool) -> Any:
    """An array → nested lists, or itself where orjson writes it; float32 with the digits that it has."""
    if value.dtype.kind == "O":
        return _mapped(_bytes_to_json if name.endswith("_bytes") else _text_to_json, value.tolist())
    if is_finite and value.ndim and value.dtype in ORJSON_DTYPES:
        return np.ascontiguousarray(value)
    if value.dtype.kind == "f" and value.dtype != np.float64:
        return value.astype("U").astype(np.float64).tolist()
    return value.tolist()


def _mapped(write: Callable[[bytes], Any], value: Any) -> Any:
    return [_mapped(write, item) for item in value] if isinstance(value, list) else write(value)


def _bytes_to_json(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode("ascii")}


def _text_to_json(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")


def _dump(document: dict[str, Any], is_finite: bool) -> bytes:
    """NaN and Infinity, which TensorFlow Serving writes as such, orjson would make null."""
    if is_finite:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(document, ensure_ascii=False).encode()


def _show(value: Any) -> str:
    """The JSON of a value, short enough for a message."""
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."
