"""FrozenSchema: a schema that was frozen and reviewed, handed to the nodes that hold data against it.

TFX's ImportSchemaGen is told a path: its cache does not see that the file changed, and a pod has no such file. This
node is told the text.
"""

from pathlib import Path

from google.protobuf import text_format
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Schema

from components.frozen_schema.parse import parse_schema


@component
def FrozenSchema(schema: OutputArtifact[Schema], text: Parameter[str]) -> None:
    """Writes `schema.pbtxt`. `text`: a tensorflow_metadata Schema in text form; raises DataError when it is not."""
    target = Path(schema.uri)
    target.mkdir(parents=True, exist_ok=True)
    (target / "schema.pbtxt").write_text(text_format.MessageToString(parse_schema(text)))
