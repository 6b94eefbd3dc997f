"""What a run over the data must have found, or it stops. Taken from the summary, after everything was counted."""

from datetime import datetime, timezone
from typing import Any

from components.errors import DataError, DataStopped
from components.interaction_example_gen.contract import ExamplesConfig

MAX_ERRORS = 10


def judge(summary: dict[str, Any], config: ExamplesConfig, span: int, types: dict[str, float]) -> None:
    """Raises DataError (an unusable file, an empty split) or DataStopped (too many rows refused, nothing new)."""
    if errors := summary["errors"]:
        more = f"\n… and {len(errors) - MAX_ERRORS} more" if len(errors) > MAX_ERRORS else ""
        raise DataError("\n".join(errors[:MAX_ERRORS]) + more)
    if not summary["rows_per_span"].get(str(span)):
        raise DataError(
            f"span {span} has files but no rows; expected interactions below their headers. "
            "Is the export that writes it complete?"
        )
    _judge_rejected(summary, config)
    _judge_eval(summary, config, span, types)
    _judge_train(summary, config, types)


def _judge_rejected(summary: dict[str, Any], config: ExamplesConfig) -> None:
    read, refused = summary["rows_read"], summary["rows_rejected"]
    if refused <= config.max_rejected_fraction * read:
        return
    lines = [
        f"{refused} of {read} rows rejected ({refused / read:.2%}); at most {config.max_rejected_fraction:.2%} may be "
        "(max_rejected_fraction). Correct the rows or the data contract:"
    ]
    for reason, found in sorted(summary["rejected"].items(), key=lambda entry: -entry[1]["count"]):
        lines.append(f"  {found['count']} × {reason}")
        lines += [f"      {sample}" for sample in found["samples"]]
    raise DataStopped("\n".join(lines))


def _judge_eval(summary: dict[str, Any], config: ExamplesConfig, span: int, types: dict[str, float]) -> None:
    if summary["eval_from_seconds"] is None:
        raise DataError(f"span {span} has no accepted row; rejected: {_counts(summary)}")
    if summary["eval_examples"]:
        return
    raise DataError(
        f"the eval split is empty: no interaction since {_utc(summary['eval_from_seconds'])} is of a declared type "
        f"({sorted(types)}); undeclared: {summary['undeclared_types']}. Declare these in interactions.types, or give "
        f"span {span} interactions that are declared"
    )


def _judge_train(summary: dict[str, Any], config: ExamplesConfig, types: dict[str, float]) -> None:
    if summary["train_targets"]:
        return
    cut, learned = summary["eval_from_seconds"], summary["learned_until_seconds"]
    if summary["first_timestamp_seconds"] >= cut:
        why = f"all {summary['rows_accepted']} interactions are in the eval part, which begins at {_utc(cut)}"
        fix = "give the span more interactions at different times, or lower eval_fraction"
    elif config.targets == "new" and learned >= cut:
        why = f"production has learned until {_utc(learned)}, and the eval part begins at {_utc(cut)}"
        fix = "wait for newer interactions, or set targets: window to learn the whole window again"
        raise DataStopped(f"nothing new to learn: {why}; {fix}")
    else:
        since = f"from {_utc(learned)} " if config.targets == "new" else ""
        why = f"no interaction {since}until {_utc(cut)} is of a declared type ({sorted(types)})"
        fix = f"declare the types of the log (undeclared: {summary['undeclared_types']}), or set targets: window"
    raise DataError(f"the train split is empty: {why}; {fix}")


def _counts(summary: dict[str, Any]) -> dict[str, int]:
    return {reason: found["count"] for reason, found in summary["rejected"].items()}


def _utc(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=timezone.utc):%Y-%m-%d %H:%M:%S} UTC ({seconds})"
