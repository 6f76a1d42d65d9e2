"""One adapter per shape of raw data, by the name that cards use for it."""

from medi_build.adapters import kilt, medmcqa, pairs, super_ni
from medi_build.adapters.base import Adapter

ADAPTERS: dict[str, Adapter] = {
    "super_ni": super_ni.adapt,
    "kilt": kilt.adapt,
    "medmcqa": medmcqa.adapt,
    "pairs": pairs.adapt,
}
