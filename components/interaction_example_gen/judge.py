"""What a run over the data must have found to have examples at all. Whether they are fit to learn, the gate decides."""

from datetime import datetime, timezone
from typing import Any

from components.errors import DataError, NothingNew
from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.interaction_example_gen.span_pattern import SpanPattern

MAX_ERRORS = 10


def judge(summary: dict[str, Any], config: ExamplesConfig, contract: DataContract, span: int) -> None:
    """Raises DataError (an unusable file, columns swapped, an empty split) or NothingNew."""
    if errors := summary["errors"]:
        more = f"\n… and {len(errors) - MAX_ERRORS} more" if len(errors) > MAX_ERRORS else ""
        raise DataError("\n".join(errors[:MAX_ERRORS]) + more)
    label = SpanPattern(contract.interactions.files).label(span)
    if not summary["figures"][str(span)]["rows_read"]:
        raise DataError(
            f"span {label} has files but no rows; expected interactions below their headers. "
            "Is the export that writes it complete?"
        )
    _judge_columns(summary, contract)
    _judge_eval(summary, contract, label)
    _judge_train(summary, config, contract)


def _judge_columns(summary: dict[str, Any], contract: DataContract) -> None:
    learned = [summary["figures"][str(span)] for span in summary["spans_learned"]]
    unknown, read = (sum(of_span[name] for of_span in learned) for name in ("rows_unknown_item", "rows_read"))
    swapped, log = summary["rows_whose_user_is_an_item"], contract.interactions
    if 2 * unknown > read and 2 * swapped > read:
        raise DataError(
            f"columns swapped? of {read} rows {unknown} have an item ({log.item_id}) that is not in the catalog, and "
            f"{swapped} a user ({log.user_id}) that is; expected items in {log.item_id!r}. Swap user_id and item_id in "
            "the data contract, or correct the files"
        )


def _judge_eval(summary: dict[str, Any], contract: DataContract, label: str) -> None:
    if summary["eval_from_seconds"] is None:
        raise DataError(f"span {label} has no accepted row; {_refused(summary)}. Correct the rows or the data contract")
    if summary["eval_examples"]:
        return
    types = sorted(contract.interactions.positive_types)
    raise DataError(
        f"the eval split is empty: no interaction since {_utc(summary['eval_from_seconds'])} is of a positive type "
        f"({types}) and of a known item; undeclared: {summary['undeclared_types']}; {_refused(summary)}. Declare these "
        f"in interactions.types, or give span {label} interactions that are declared"
    )


def _judge_train(summary: dict[str, Any], config: ExamplesConfig, contract: DataContract) -> None:
    if summary["train_targets"]:
        return
    cut, learned = summary["eval_from_seconds"], summary["learned_until_seconds"]
    if config.targets == "new" and learned >= cut:
        why = f"production has learned until {_utc(learned)}, and the eval part begins at {_utc(cut)}"
        fix = "wait for newer interactions, or set targets: window to learn the whole window again"
        raise NothingNew(f"nothing new to learn: {why}; {fix}")
    if summary["first_timestamp_seconds"] >= cut:
        why = f"all {summary['rows_accepted']} interactions are in the eval part, which begins at {_utc(cut)}"
        fix = "give the span more interactions at different times, or lower eval_fraction"
    else:
        why = f"no interaction until {_utc(cut)} is of a declared type ({sorted(contract.interactions.weights)})"
        fix = f"declare the types of the log (undeclared: {summary['undeclared_types']}), or set targets: window"
    raise DataError(f"the train split is empty: {why}; {_refused(summary)}; {fix}")


def _refused(summary: dict[str, Any]) -> str:
    """The rows that did not become interactions, by reason, the most frequent first, with a sample each."""
    found = [*summary["rejected"].items(), *summary["duplicates"].items(), *summary["left_out"].items()]
    found.sort(key=lambda entry: -entry[1]["count"])
    words = [f"{f['count']} × {reason} ({', '.join(f['samples'][:1])})" for reason, f in found]
    return f"refused: {'; '.join(words)}" if words else "no row was refused"


def _utc(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=timezone.utc):%Y-%m-%d %H:%M:%S} UTC ({seconds})"
