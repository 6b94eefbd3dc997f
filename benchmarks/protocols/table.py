"""What a protocol reports: figures of this run beside published ones and the bar, in columns that line up."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Line:
    """A contender: one figure per metric, None where there is none, and a note (how it was made, or who published)."""

    name: str
    figures: Sequence[float | None]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One protocol's result. `bar` has a figure per metric too: to reach, or not to pass (`less_is_better`)."""

    title: str
    metrics: Sequence[str]
    ours: Sequence[Line]
    baselines: Sequence[Line]
    published: Sequence[Line]
    bar: Sequence[float | None]
    less_is_better: Collection[str] = ()  # metrics
    notes: Sequence[str] = field(default_factory=tuple)

    def is_met(self, line: Line) -> bool:
        """Whether every figure that has a bar reaches it."""
        return all(
            figure is not None and (figure <= bar if metric in self.less_is_better else figure >= bar)
            for metric, figure, bar in zip(self.metrics, line.figures, self.bar, strict=True)
            if bar is not None
        )

    def __str__(self) -> str:
        groups = (("this run", self.ours), ("baselines, this run", self.baselines), ("published", self.published))
        width = 2 + max(24, *(len(line.name) for _, lines in groups for line in lines))
        told = [self.title, " " * (width + 2) + "".join(f"{metric:>15}" for metric in self.metrics)]
        for group, lines in groups:
            if lines:
                told += [group, *(_told(line, width) for line in lines)]
        told += ["bar", *(_told(line, width) for line in self._bars())]
        told += [f"  {line.name}: the bar is {'met' if self.is_met(line) else 'NOT met'}" for line in self.ours]
        return "\n".join([*told, *self.notes])

    def _bars(self) -> list[Line]:
        """The bar in lines: what is to be reached, and what is not to be passed."""
        lines = []
        for name, is_less in (("at least", False), ("at most", True)):
            parts = zip(self.metrics, self.bar, strict=True)
            figures = [bar if (metric in self.less_is_better) == is_less else None for metric, bar in parts]
            lines += [Line(name, figures)] if any(figure is not None for figure in figures) else []
        return lines


def _told(line: Line, width: int) -> str:
    figures = "".join(f"{'–' if figure is None else f'{figure:.4f}':>15}" for figure in line.figures)
    return f"  {line.name:<{width}}{figures}   {line.note}".rstrip()
