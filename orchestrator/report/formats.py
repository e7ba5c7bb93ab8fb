"""How numbers are written, the same in page, charts and card. What is missing is a dash."""

import math
from collections.abc import Callable
from typing import Any, TypeGuard

from orchestrator.report.schema import Comparison, Interval
from orchestrator.training.rows import Metric

MISSING = "–"  # noqa: RUF001 - an en dash is what tables show for nothing


def finite(value: Any) -> TypeGuard[float]:
    """Whether `value` is a number to show: failed trials have NaN or nothing."""
    return isinstance(value, int | float) and math.isfinite(value)


def percent(value: Any, digits: int = 1) -> str:
    """0.5987 -> "59.9%"."""
    return f"{100 * value:.{digits}f}%" if finite(value) else MISSING


def points(value: Any) -> str:
    """A difference of two accuracies in percentage points, signed: 0.023 -> "+2.3"."""
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}") if finite(value) else MISSING


def signed(value: Any, digits: int = 2) -> str:
    """-0.3 -> "−0.30"."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}") if finite(value) else MISSING


def span(interval: tuple[float, float]) -> str:
    """The ends of an interval of accuracies, such as "46.1 to 58.0"."""
    return " to ".join(f"{100 * end:.1f}" for end in interval)


def with_interval(found: Interval, metric: Metric) -> str:
    """A difference with its 95 % interval: accuracies in points, "+4.2 [+2.3, +6.2]"; log losses as they are."""
    write = points if metric == "accuracy" else signed
    return f"{write(found.value)} [{write(found.low)}, {write(found.high)}]"


def in_words(found: Interval) -> str:
    """What a difference means of the first of the two."""
    return "no difference that this test can show" if found.verdict == "no difference" else found.verdict


def outcome_of(found: Comparison) -> str:
    """What distillation changes, in one line."""
    seeds = f"{found.seeds} seed" + "s" * (found.seeds > 1)
    return (
        f"accuracy {with_interval(found.accuracy, 'accuracy')} points ({in_words(found.accuracy)}), log loss "
        f"{with_interval(found.log_loss, 'log_loss')} ({in_words(found.log_loss)}); 95 % intervals over "
        f"{found.locations} locations and {seeds}"
    )


def fixed(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if finite(value) else MISSING


def whole(value: Any) -> str:
    """118220 -> "118,220"."""
    return f"{value:,.0f}" if finite(value) else MISSING


def setting(value: Any) -> str:
    """A setting's value: three significant digits if it is a fraction."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def scientific(value: Any) -> str:
    """0.000202 -> "2.0e-04"."""
    return f"{value:.1e}" if finite(value) else MISSING


def duration(seconds: Any) -> str:
    """673.5 -> "11 min 14 s"."""
    if not finite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def milliseconds(seconds: Any) -> str:
    """0.000392 -> "0.39 ms"."""
    return f"{1000 * seconds:.3g} ms" if finite(seconds) else MISSING


def shortened(value: Any) -> float | None:
    """For curves: five significant digits are finer than a line's width; None, a gap, where there is no number."""
    return float(f"{value:.5g}") if finite(value) else None


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        *(
            percent,
            points,
            signed,
            span,
            with_interval,
            in_words,
            fixed,
            whole,
            setting,
            scientific,
            duration,
            milliseconds,
        ),
    )
}
