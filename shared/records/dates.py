"""Dates as owners of pictures write them, as spans of days: ``1652``, ``c. 1652``, ``1650-1660``, ``17th century``.

A day is a number that sorts: year × 10,000 + month × 100 + day. Years before the first have negative numbers.
"""

import re
from typing import Final

Span = tuple[int, int]
"""First and last day."""

_ABOUT = re.compile(
    r"^(?:c\.?\s?a\.?|ca\.?|c\.?|circa|about|around|um|vers|approx(?:imately|\.)?|probably|possibly|~|≈)\s*(?=[\d-])",
    re.I,
)
_YEAR = r"-?\d{1,4}"
_DAY = re.compile(
    rf"(?P<year>{_YEAR})(?:[-:/.](?P<month>\d{{1,2}})(?:[-:/.](?P<day>\d{{1,2}}))?)?(?:[T ]\d{{1,2}}:\d{{2}}.*)?"
)
_GERMAN = re.compile(r"(?:(?P<day>\d{1,2})\.\s?)?(?P<month>\d{1,2})\.(?P<year>\d{4})")
_DECADE = re.compile(r"(\d{3}0)\s?'?s")
_CENTURY = re.compile(
    r"(?:(early|mid|late)[ -])?(\d{1,2})(?:st|nd|rd|th|\.)\s*(?:century|c\.?|jahrhundert|jh\.?)(\s*b\.?c\.?(?:e\.?)?)?",
    re.I,
)
_BEFORE_CHRIST = re.compile(r"(\d{1,4})\s*(?:b\.?c\.?(?:e\.?)?|v\.?\s?chr\.?)", re.I)
_BETWEEN = re.compile(r"^(?:between|from|zwischen)\s+", re.I)
_TO = re.compile(r"\s*(?:–|—|/|\bto\b|\bbis\b|\band\b|\bund\b|\.\.)\s*|(?<=\d)\s+-\s+|(?<=\d{4})-(?=\d{4}(?!\d))", re.I)
_PARTS: Final = {"early": (1, 33), "mid": (34, 66), "late": (67, 100)}


def span(text: str) -> Span | None:
    """Return the days that a date stands for, None if it cannot be told."""
    text = _BETWEEN.sub("", text.strip().strip("[]()").rstrip("?").strip())
    if (days := _one(text)) is not None:
        return days
    parts = _TO.split(text)
    if len(parts) == 2:
        first, last = _one(parts[0]), _one(_completed(parts[1].strip(), parts[0].strip()))
        if first is not None and last is not None and first[0] <= last[1]:
            return first[0], last[1]
    return None


def day_number(year: int, month: int, day: int) -> int:
    """Return the number of a day."""
    return year * 10_000 + month * 100 + day


def _completed(last: str, first: str) -> str:
    """Return the end of a span with the century that ``1652–57`` leaves out."""
    year = re.search(r"\d{4}", first)
    return year[0][: 4 - len(last)] + last if year and last.isdecimal() and len(last) < 4 else last


def _one(text: str) -> Span | None:
    text = _ABOUT.sub("", text.strip().strip("[]()")).strip()
    if found := _CENTURY.fullmatch(text):
        return _century(int(found[2]), (found[1] or "").lower(), before_christ=bool(found[3]))
    if found := _DECADE.fullmatch(text):
        return day_number(int(found[1]), 1, 1), day_number(int(found[1]) + 9, 12, 31)
    if found := _BEFORE_CHRIST.fullmatch(text):
        return _days(1 - int(found[1]), None, None)
    found = _GERMAN.fullmatch(text) or _DAY.fullmatch(text)
    if found is None or (found["day"] and not found["month"]):
        return None
    month, day = (int(found[name]) if found[name] else None for name in ("month", "day"))
    return _days(int(found["year"]), month or None, (day or None) if month else None)


def _days(year: int, month: int | None, day: int | None) -> Span | None:
    if month is None:
        return day_number(year, 1, 1), day_number(year, 12, 31)
    if not 1 <= month <= 12:
        return None
    if day is None:
        return day_number(year, month, 1), day_number(year, month, 31)
    return (day_number(year, month, day),) * 2 if 1 <= day <= 31 else None


def _century(number: int, part: str, *, before_christ: bool) -> Span:
    first, last = _PARTS.get(part, (1, 100))
    start = -100 * number if before_christ else 100 * (number - 1)
    return day_number(start + first, 1, 1), day_number(start + last, 12, 31)
