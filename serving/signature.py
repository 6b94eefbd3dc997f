"""What a signature of a SavedModel takes and gives, and the check of a request against it. Numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from serving.errors import InvalidInput

DEFAULT_SIGNATURE = "serving_default"

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor: dtype in TensorFlow's name (`DT_STRING`), shape with None where it is unknown."""

    name: str
    dtype_name: str
    numpy_dtype: np.dtype
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        return f"{self.dtype_name} {format_shape(self.shape)}"

    def check(self, value: np.ndarray) -> None:
        """Raises InvalidInput when the value's dtype or shape does not fit."""
        is_text = self.numpy_dtype == np.dtype(object)
        fits_dtype = value.dtype.kind in "OSU" if is_text else value.dtype == self.numpy_dtype
        fits_shape = self.shape is None or (
            len(self.shape) == value.ndim
            and all(want in (None, got) for want, got in zip(self.shape, value.shape, strict=True))
        )
        if not (fits_dtype and fits_shape):
            got = "DT_STRING" if value.dtype.kind in "OSU" else value.dtype.name
            raise InvalidInput(f'input "{self.name}": expected {self}, got {got} {format_shape(value.shape)}')


@dataclass(frozen=True)
class Signature:
    """A named function of the model: its inputs and outputs by name."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def check_inputs(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Raises InvalidInput, in TensorFlow Serving's words, unless names, dtypes and shapes fit."""
        if set(inputs) != set(self.inputs):
            raise InvalidInput(
                f"input size does not match signature: {len(inputs)}!={len(self.inputs)} "
                f"len({_names(inputs)}) != len({_names(self.inputs)}). "
                f"Sent extra: {_names(set(inputs) - set(self.inputs))}. "
                f"Missing but required: {_names(set(self.inputs) - set(inputs))}."
            )
        for name, spec in self.inputs.items():
            spec.check(inputs[name])

    def check_output_filter(self, output_filter: Iterable[str]) -> None:
        """Raises InvalidInput for an output that the signature does not have, or one named twice."""
        seen: set[str] = set()
        for name in output_filter:
            if name not in self.outputs:
                raise InvalidInput(
                    f"output tensor alias not found in signature: {name} "
                    f"Outputs expected to be in the set {_names(self.outputs)}."
                )
            if name in seen:
                raise InvalidInput(f"duplicate output tensor alias: {name}")
            seen.add(name)

    def dummy_inputs(self) -> Arrays:
        """One batch of empty strings and zeros that fits: every unknown dimension is 1."""
        dummies: Arrays = {}
        for name, spec in self.inputs.items():
            shape = [1 if size is None else size for size in spec.shape or ()]
            fill: object = b"" if spec.numpy_dtype == np.dtype(object) else 0
            dummies[name] = np.full(shape, fill, dtype=spec.numpy_dtype)
        return dummies


def format_shape(shape: Iterable[int | None] | None) -> str:
    """`[?,3]` for (None, 3); `[...]` for an unknown rank."""
    if shape is None:
        return "[...]"
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"


def _names(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
