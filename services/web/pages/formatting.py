"""Formats numbers and times for the pages."""

from collections.abc import Sequence
from datetime import UTC, datetime

from babel.dates import format_date
from flask import Flask

from services.web.languages import gettext, translated
from services.web.languages.choice import language
from services.web.pages.facets import shown_fields
from services.web.pages.vocabulary import field_name
from shared.rpc.query import METRIC_NAMES, MODE_NAMES, STAGES, SearchResponse

_STAGES = [stage for stage in STAGES if stage != "total"]
_UNITS = ("KB", "MB", "GB", "TB")


def written(text: str) -> str:
    """Return a number, given as Python's formats have it, as the language of whoever asks writes it."""
    return language().number(text)


def count(number: float) -> str:
    """Return a whole number with thousands separators."""
    return written(f"{number:,.0f}")


def share(part: int, whole: int) -> str:
    """Return the share of a part in a whole, in percent."""
    value = 100 * part / whole if whole else 0.0
    return written(f"{value:.0f} %" if value >= 10 or not value else f"{value:.1f} %")


def percent(fraction: float | None) -> str:
    """Return a fraction in percent, with about three digits."""
    if fraction is None:
        return "–"
    return written(f"{100 * fraction:.1f} %" if fraction >= 0.001 or not fraction else f"{100 * fraction:.2g} %")


def decimal(value: float, digits: int = 1) -> str:
    """Return a number with so many digits behind the point."""
    return written(f"{value:.{digits}f}")


def figure(value: float | None) -> str:
    """Return a precision, recall or the like, to three digits."""
    return "–" if value is None else decimal(value, 3)


def times(value: float) -> str:
    """Return how often something counts."""
    return written(f"{value:g}")


def difference(value: float, digits: int = 3) -> str:
    """Return by how much a figure rose, with its sign."""
    return written(f"{value:+,.{digits}f}".replace("-", "−"))


def span(interval: Sequence[float]) -> str:
    """Return an interval of figures."""
    return gettext("%(low)s to %(high)s", low=figure(interval[0]), high=figure(interval[1]))


def milliseconds(number: float | None) -> str:
    """Return milliseconds with about three digits."""
    if number is None:
        return "–"
    return written(f"{number:.0f} ms" if number >= 100 else f"{number:.1f} ms")


def minutes(number: float) -> str:
    """Return minutes, or hours where there are many."""
    if number >= 120:
        return gettext("%(count)s hours", count=count(round(number / 60)))
    return gettext("a minute") if number < 1.5 else gettext("%(count)s minutes", count=count(round(number)))


def size(number: int) -> str:
    """Return a number of bytes in the largest unit that fits."""
    if number < 1000:
        return gettext("%(number)s bytes", number=number)
    value, unit = number / 1000, 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return written(f"{value:.0f} {_UNITS[unit]}" if value >= 100 else f"{value:.1f} {_UNITS[unit]}")


def day(time: datetime, *, short: bool = False) -> str:
    """Return the day of a time, in UTC, with the name of the month."""
    return format_date(time.astimezone(UTC), "medium" if short else "long", locale=language().locale)


def date(seconds: float) -> str:
    """Return the day of a time in seconds since 1970, in UTC."""
    return day(datetime.fromtimestamp(seconds, UTC))


def moment(text: str) -> str:
    """Return an RFC 3339 time, to the minute, in UTC."""
    time = datetime.fromisoformat(text).astimezone(UTC)
    return f"{day(time)}, {time:%H:%M} UTC"


def stages(response: SearchResponse) -> list[tuple[str, float, float, float]]:
    """Return the stages of a search: name, milliseconds, and start and length in percent of the total."""
    spent = [(name, response.timings_ms.get(name, 0.0)) for name in _STAGES if response.timings_ms.get(name, 0.0) > 0]
    total = max(sum(ms for _, ms in spent), 1e-9)
    start, rows = 0.0, []
    for name, ms in spent:
        rows.append((name, ms, round(100 * start / total, 2), round(100 * ms / total, 2)))
        start += ms
    return rows


def sentence(told: str) -> str:
    """Return what an error says as a sentence, in the language of whoever asks if it is known in it."""
    text = translated(told)
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")


def attach(app: Flask) -> None:
    """Add the formats to the templates as filters and functions."""
    numbers = count, percent, decimal, figure, times, difference, span, milliseconds, minutes, size
    for filter_ in (*numbers, date, moment, sentence, field_name):
        app.add_template_filter(filter_)
    for function in (share, stages, shown_fields):
        app.add_template_global(function)
    app.add_template_filter(lambda mode: MODE_NAMES[mode], "mode_name")
    app.add_template_filter(lambda metric: METRIC_NAMES[metric], "metric_name")
