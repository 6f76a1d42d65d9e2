"""How fast an encoder is here: a small seeded sample, encoded for a few seconds."""

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medi_build.content.pipelines import EncoderSpec
from medi_build.errors import EncoderError

if TYPE_CHECKING:
    from medi_build.encode.encoder import Encoder

SAMPLE_SECONDS = 3.0
TOKENS_PER_TEXT = 100
"""Of the sample's texts, about; that a build's texts are so long on the average is an assumption."""
_FIRST_TEXTS = 8
_MOST_TEXTS = 2048
_WORDS = (
    "the of a water light paper house river small green old open music letter window winter market road stone bread "
    "early heavy garden north story number colour season table engine morning"
)


class Speed(NamedTuple):
    """What was measured.

    Attributes:
        texts_per_second: of about `TOKENS_PER_TEXT` tokens each.
        dimension: length of a vector.
        device: where.
        dtype: arithmetic.
    """

    texts_per_second: float
    dimension: int
    device: str
    dtype: str


def measure(spec: EncoderSpec, device: str | None = None, seconds: float = SAMPLE_SECONDS) -> Speed | None:
    """The encoder's speed on texts of `TOKENS_PER_TEXT` words; None if it would have to be fetched first.

    Raises:
        EncoderError: it is here and cannot be loaded.
        OptionError: there is no such device.
    """
    from medi_build.encode.encoder import Encoder
    from medi_build.encode.model_files import find_model

    try:
        files = find_model(spec.model, spec.revision, trust_remote_code=spec.trust_remote_code, local_files_only=True)
    except EncoderError:
        if Path(spec.model).expanduser().is_dir():
            raise
        return None
    encoder = Encoder(spec.model_copy(update={"model": str(files.folder), "revision": None}), device)
    return Speed(
        _texts_per_second(encoder, seconds), encoder.dimension, str(encoder.device), str(encoder.about["dtype"])
    )


def _texts_per_second(encoder: "Encoder", seconds: float) -> float:
    """Of a growing sample; the first pass warms up, and counts only where it alone takes as long."""
    _ = encoder.model  # loaded before the clock runs
    draw = random.Random(0)
    took = _seconds(encoder, _sample(draw, _FIRST_TEXTS))
    if took >= seconds:
        return _FIRST_TEXTS / took
    took, count, done = 0.0, _FIRST_TEXTS, 0
    while took < seconds:
        took += _seconds(encoder, _sample(draw, count))
        done += count
        count = min(2 * count, _MOST_TEXTS)
    return done / took


def _seconds(encoder: "Encoder", texts: list[str]) -> float:
    begin = time.perf_counter()
    encoder.encode(texts)
    return time.perf_counter() - begin


def _sample(draw: random.Random, count: int) -> list[str]:
    """Texts of common words, each of which is a token to most tokenizers."""
    words = _WORDS.split()
    return [" ".join(draw.choices(words, k=TOKENS_PER_TEXT)) for _ in range(count)]
