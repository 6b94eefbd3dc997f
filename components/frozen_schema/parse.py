"""A schema's text, checked before anything is held against it."""

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.errors import DataError


def parse_schema(text: str) -> schema_pb2.Schema:
    """From text form. Raises DataError, with line and column, when it is no schema, or an empty one."""
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise DataError(
            f"the frozen schema cannot be read: {error}; freeze it anew: evergreen schema freeze"
        ) from error
    if not schema.feature:
        raise DataError("the frozen schema declares no feature: freeze it anew: evergreen schema freeze")
    return schema
