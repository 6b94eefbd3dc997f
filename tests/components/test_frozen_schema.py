"""The frozen schema arrives as it was frozen, or says what is wrong with it."""

from pathlib import Path

import pytest

from components.errors import DataError
from components.frozen_schema.component import FrozenSchema
from components.frozen_schema.parse import parse_schema

TEXT = """
feature { name: "kind" type: BYTES domain: "kind" }
string_domain { name: "kind" value: "r" value: "g" }
"""


def test_the_file_is_what_tfx_reads(tmp_path: Path) -> None:
    from tensorflow_data_validation import load_schema_text
    from tfx.types.standard_artifacts import Schema

    artifact = Schema()
    artifact.uri = str(tmp_path / "schema")
    FrozenSchema.test_call(schema=artifact, text=TEXT)
    schema = load_schema_text(str(tmp_path / "schema" / "schema.pbtxt"))
    assert [feature.name for feature in schema.feature] == ["kind"]
    assert list(schema.string_domain[0].value) == ["r", "g"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("feature { nam: 'x' }", "1:11"), ("", "declares no feature"), ("<html>", "cannot be read")],
)
def test_what_is_no_schema_is_told(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse_schema(text)
