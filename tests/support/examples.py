"""How many examples Hypothesis tries."""

from hypothesis import settings

_USUAL = 100


def examples(number: int) -> settings:
    """Return the decorator for a property that is tried with so many examples, and with fewer by ``make test-fast``.

    The number is that of a full run; it changes as the profile's number of examples does.
    """
    profile = settings.default
    assert profile is not None
    return settings(max_examples=max(1, number * profile.max_examples // _USUAL))
