"""One adapter per shape of raw data, by the name that cards use for it."""

from medi_build.adapters import kilt, pairs
from medi_build.adapters.base import Adapter

ADAPTERS: dict[str, Adapter] = {"kilt": kilt.adapt, "pairs": pairs.adapt}
