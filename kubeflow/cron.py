"""When a recurring run begins."""

import re

from evergreen_kubeflow.errors import ClusterError

FIELDS = (
    ("second", 0, 59, ""),
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of the month", 1, 31, ""),
    ("month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    ("day of the week", 0, 6, "SUN MON TUE WED THU FRI SAT"),
)
PART = re.compile(r"(?:[*?]|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")


def check_cron(cron: str) -> str:
    """A cron expression of six fields, seconds first, with single spaces.

    Raises:
      ClusterError: it has not six fields, or one is out of its bounds. Five must not pass: the server takes them,
        reads the first as seconds (robfig/cron v1.2 lets the last field be absent) and runs the pipeline every hour.
    """
    fields = cron.split()
    if len(fields) != len(FIELDS):
        fix = f"write {'0 ' + ' '.join(fields)!r}" if len(fields) == 5 else "such as '0 30 2 * * *', every day at 02:30"
        raise ClusterError(f"cron {cron!r} has {len(fields)} fields; Kubeflow wants six, seconds first: {fix}")
    for field, (name, low, high, words) in zip(fields, FIELDS, strict=True):
        named = {word: str(low + place) for place, word in enumerate(words.split())}
        for part in field.upper().split(","):
            match = PART.fullmatch(part)
            first, last, step = match.group("first", "last", "step") if match else ("", "", "")
            numbers = [named.get(text, text) for text in (first, last) if text is not None]
            inside = all(text.isdecimal() and low <= int(text) <= high for text in numbers)
            if not inside or [*map(int, numbers)] != sorted(map(int, numbers)) or (step and not int(step)):
                or_words = f" or {words.split()[0]}-{words.split()[-1]}" if words else ""
                raise ClusterError(
                    f"cron {cron!r}: the {name} is {field!r}; expected {low}-{high}{or_words}, *, lists and steps"
                )
    return " ".join(fields)
