"""A team with a dataset of its own, as in tests/bad_input."""

from tests.bad_input.conftest import cache, team

__all__ = ["cache", "team"]
