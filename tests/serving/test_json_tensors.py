"""The JSON rules of TensorFlow Serving's REST API, with the examples of its g3doc/api_rest.md."""

from __future__ import annotations

import json

import numpy as np
import pytest

from serving.errors import InvalidInput
from serving.json_tensors import parse_body
from serving.signature import Signature, TensorSpec

TEXT = TensorSpec("tag", "DT_STRING", np.dtype(object), (None,))
SIGNAL = TensorSpec("signal", "DT_INT64", np.dtype(np.int64), (None, 5))
SENSOR = TensorSpec("sensor", "DT_FLOAT", np.dtype(np.float32), (None, 2, 2))
THREE = Signature("three", {"tag": TEXT, "signal": SIGNAL, "sensor": SENSOR}, {})


def only(dtype_name: str, dtype: type) -> Signature:
    return Signature("one", {"x": TensorSpec("x", dtype_name, np.dtype(dtype), None)}, {})


STRINGS, FLOATS, INT8 = only("DT_STRING", object), only("DT_FLOAT", np.float32), only("DT_INT8", np.int8)
BOOLS = only("DT_BOOL", np.bool_)


def read(document: object, signature: Signature) -> dict[str, np.ndarray]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_body(body).read_inputs(signature)


def test_rows_and_columns_of_the_documentation_are_the_same_tensors() -> None:
    rows = read(
        {
            "instances": [
                {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
                {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
            ]
        },
        THREE,
    )
    columns = read(
        {
            "inputs": {
                "tag": ["foo", "bar"],
                "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]],
                "sensor": [[[1, 2], [3, 4]], [[4, 5], [6, 8]]],
            }
        },
        THREE,
    )
    assert rows["tag"].tolist() == columns["tag"].tolist() == [b"foo", b"bar"]
    assert rows["sensor"].dtype == np.float32
    assert rows["sensor"].shape == (2, 2, 2)
    for name in ("signal", "sensor"):
        np.testing.assert_array_equal(rows[name], columns[name])


def test_one_named_input_needs_no_name() -> None:
    assert read({"instances": ["foo", "bar", "baz"]}, STRINGS)["x"].tolist() == [b"foo", b"bar", b"baz"]
    assert read({"instances": [[[1, 2]], [[3, 4]]]}, FLOATS)["x"].shape == (2, 1, 2)  # 2 tensors of [1, 2]
    assert read({"inputs": ["foo", "bar"]}, STRINGS)["x"].tolist() == [b"foo", b"bar"]
    assert read({"inputs": 4.5}, FLOATS)["x"].shape == ()
    assert read({"instances": [{"x": "foo"}]}, STRINGS)["x"].tolist() == [b"foo"]
    assert read({"inputs": {"x": ["foo"]}}, STRINGS)["x"].tolist() == [b"foo"]


def test_base64_is_a_value_and_not_a_named_tensor() -> None:
    image = {"b64": "aW1hZ2UgYnl0ZXM="}  # the documentation's: b"image bytes"
    assert read({"instances": [image, "text"]}, STRINGS)["x"].tolist() == [b"image bytes", b"text"]
    assert read({"inputs": image}, STRINGS)["x"].item() == b"image bytes"
    assert read({"instances": [{"x": image}]}, STRINGS)["x"].tolist() == [b"image bytes"]


def test_what_json_does_not_know_is_read_and_written() -> None:
    body = parse_body(b'{"inputs": [1.0, -3.14, NaN, Infinity, -Infinity]}')
    x = body.read_inputs(FLOATS)["x"]
    np.testing.assert_array_equal(x, np.float32([1.0, -3.14, np.nan, np.inf, -np.inf]))
    assert body.write_outputs({"y": x}) == b'{"outputs": [1.0, -3.14, NaN, Infinity, -Infinity]}'


def test_one_output_loses_its_name_and_several_keep_theirs() -> None:
    rows, columns = parse_body(b'{"instances": [1]}'), parse_body(b'{"inputs": [1]}')
    y, z = np.float32([3.5, 4.0]), np.array([[b"a"], [b"b"]], dtype=object)
    assert json.loads(rows.write_outputs({"y": y})) == {"predictions": [3.5, 4.0]}
    assert json.loads(columns.write_outputs({"y": y})) == {"outputs": [3.5, 4.0]}
    assert json.loads(rows.write_outputs({"y": y, "z": z})) == {
        "predictions": [{"y": 3.5, "z": ["a"]}, {"y": 4.0, "z": ["b"]}]
    }
    assert json.loads(columns.write_outputs({"y": y, "z": z})) == {"outputs": {"y": [3.5, 4.0], "z": [["a"], ["b"]]}}


def test_float32_is_written_with_its_own_digits_and_survives() -> None:
    y = np.float32([0.2, 1 / 3, 9_000_000, 3e-5, np.finfo(np.float32).tiny])
    written = parse_body(b'{"inputs": [1]}').write_outputs({"y": y})
    assert b"0.2," in written  # and not 0.20000000298023224
    np.testing.assert_array_equal(np.float32(json.loads(written)["outputs"]), y)


def test_only_outputs_that_are_named_bytes_are_base64() -> None:
    value = np.array([b"\xff\x00", b"ok"], dtype=object)
    written = json.loads(parse_body(b'{"inputs": [1]}').write_outputs({"a_bytes": value, "b": value}))
    assert written["outputs"]["a_bytes"] == [{"b64": "/wA="}, {"b64": "b2s="}]
    assert written["outputs"]["b"][1] == "ok"


def test_rows_need_outputs_of_one_batch_size() -> None:
    with pytest.raises(InvalidInput, match="no common batch size"):
        parse_body(b'{"instances": [1]}').write_outputs({"y": np.zeros(2), "z": np.zeros(3)})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b"{", "JSON Parse error: .* at offset: 1"),
        (b'{"inputs": ["\xff"]}', "not UTF-8 at offset: 13"),
        (b"[" * 100_000, "beyond all measure"),
        (b'{"inputs": [1' + b"0" * 5000 + b"]}", "beyond all measure"),
        (b"[1, 2]", r"JSON Value: \[1, 2\] Is not object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"inputs": [1], "instances": [1]}', "only one of 'inputs' or 'instances'"),
        (b'{"instances": 1}', "Expecting 'instances' to be an list"),
        (b'{"instances": []}', "No values in 'instances'"),
        (b'{"signature_name": 3, "inputs": [1]}', "'signature_name' key must be a string"),
    ],
)
def test_a_body_that_makes_no_sense_says_why(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_body(body)


@pytest.mark.parametrize(
    ("document", "signature", "message"),
    [
        ({"instances": ["a"]}, THREE, "instances is a plain list, but expecting list of objects"),
        ({"inputs": ["a"]}, THREE, "inputs is a plain value/list, but expecting an object"),
        ({"instances": [{"tag": "a"}]}, THREE, "element: 0 .* keys must be equal to: sensor,signal,tag"),
        ({"instances": [{"x": "a"}, "b"]}, STRINGS, "Expecting object but got list at item 1"),
        ({"instances": ["b", {"x": "a"}]}, STRINGS, "got object at item 1"),
        ({"inputs": {"tag": ["a"]}}, THREE, "Missing named input: signal"),
        ({"inputs": {"x": [1], "ex": [2]}}, FLOATS, "does not have named input: ex"),
        ({"inputs": [[1, 2], [3]]}, FLOATS, "Encountered size: 1 where a list of 2"),
        ({"inputs": [[1], 2]}, FLOATS, "Encountered value: 2 where a list of 1"),
        ({"inputs": [1, [2]]}, FLOATS, "JSON Value: .* not of expected type: DT_FLOAT"),
        ({"inputs": ["1"]}, FLOATS, "Type: str is not of expected type: DT_FLOAT"),
        ({"inputs": [True]}, FLOATS, "Type: bool is not"),
        ({"inputs": [1e39]}, FLOATS, "without loss of precision"),
        ({"inputs": [1]}, STRINGS, "Type: int is not of expected type: DT_STRING"),
        ({"inputs": [None]}, STRINGS, "Type: NoneType"),
        ({"inputs": [1.0]}, INT8, "Type: float"),
        ({"inputs": [128]}, INT8, "JSON Value: 128"),  # int8 ends at 127
        ({"inputs": [1]}, BOOLS, "Type: int"),
        ({"inputs": [{"b64": "!"}]}, STRINGS, "Unable to base64 decode"),
        ({"inputs": [{"b64": 5}]}, STRINGS, "not of expected type: DT_STRING"),
        (b'{"inputs": ["\\ud800"]}', STRINGS, "half of a surrogate pair"),
    ],
)
def test_values_that_do_not_fit_say_which(document: object, signature: Signature, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(document, signature)
