"""One adapter per shape of raw data, by the name that cards use for it."""

from medi_build.adapters import pairs
from medi_build.adapters.base import Adapter

ADAPTERS: dict[str, Adapter] = {"pairs": pairs.adapt}
