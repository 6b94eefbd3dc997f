"""Artifacts that the Kubeflow UI draws. A page or a text is a file at its URI; metrics are properties alone."""

from typing import ClassVar

from tfx.types.artifact import Artifact


class UiArtifact(Artifact):
    """Base of the four; `SYSTEM_TYPE` is the title that the UI goes by."""

    SYSTEM_TYPE: ClassVar[str]


class Html(UiArtifact):
    """A page that stands alone."""

    TYPE_NAME = "evergreen.Html"
    SYSTEM_TYPE = "system.HTML"


class Markdown(UiArtifact):
    """A text."""

    TYPE_NAME = "evergreen.Markdown"
    SYSTEM_TYPE = "system.Markdown"


class ScalarMetrics(UiArtifact):
    """Figures by name; the UI compares them across runs."""

    TYPE_NAME = "evergreen.ScalarMetrics"
    SYSTEM_TYPE = "system.Metrics"


class RocCurve(UiArtifact):
    """`confidenceMetrics`: points of a ROC curve."""

    TYPE_NAME = "evergreen.RocCurve"
    SYSTEM_TYPE = "system.ClassificationMetrics"
