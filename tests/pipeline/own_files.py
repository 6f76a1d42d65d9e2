"""A user's own pairs for tests, and how they are mined."""

from medi_build.content.mining_rule import MiningRule
from medi_build.pipeline.mine_file import mine_file
from tests.mine.conftest import embed

PAIRS = [
    {"question": "what is tea", "passage": "tea is a hot drink"},
    {"question": "what is a fox", "passage": "a fox is a wild animal"},
    {"question": "", "passage": "nothing was asked"},
    {"question": "where is the sea", "passage": "the sea lies in the west"},
]
THINGS = ("tea", "fox", "sea", "door", "lamp", "pump")


def run(source, out, **options):
    return mine_file(
        str(source), out, embed=embed, rule=MiningRule(), query_column="question", positive_column="passage", **options
    )


def own(source, out, rule, formats, encoder=embed, **options):
    return mine_file(str(source), out, embed=encoder, rule=rule, formats=formats, **options)
