"""Artifact types of ours. All others in the chain are TFX's standard types.

Their names have a dot, and they declare no properties (custom ones serve): TFX's Kubeflow compiler asks for both.
"""

from tfx.types.artifact import Artifact
from tfx.types.system_artifacts import Model


class Production(Artifact):
    """What is live, and what the run goes on from: `production.json`, and copies of what the next run needs of both.

    They are one version, unless the live one learned a span that was condemned since (production_model/look_up.py).
    Layout below its URI (only `production.json` exists before the first push):

        production.json      {"version": int | null, "start_version": int | null, "start_because": str,
                              "learned_until_seconds": int, "spans": [int, …]}: the last two of `start_version`
        servable/            the SavedModel in production: the baseline
        trainer/             the Trainer's output of `start_version`: the warm start; all that follows is of it too
        statistics/interactions/Split-*/FeatureStats.pb, statistics/catalog/Split-all/FeatureStats.pb
        state/               the user state, for the next span to begin from
    """

    TYPE_NAME = "evergreen.Production"
    TYPE_ANNOTATION = Model


class UserState(Artifact):
    """The last interactions of every user, and which spans they come from (interaction_example_gen/state.py)."""

    TYPE_NAME = "evergreen.UserState"


class DataVerdict(Artifact):
    """What the data gate decided, also of a run that was stopped: `verdict.html` for people, and `verdict.json`.

    decision: go, warn or stop. span: the newest read. spans: those to learn, {"6": how people call it}.
    fingerprints: of these spans' files, {"6": …}.
    quarantined: on a stop the spans that are bad.
    reasons, warnings, accepted: sentences. overrides: {"6": {"who": …, "why": …}} of the spans to learn.
    checks: [{name, outcome: passed, warned or failed, sentence, figure, warn, stop, unit, at_least, span}, …]; span is
      null where the whole run is asked.
    """

    TYPE_NAME = "evergreen.DataVerdict"
