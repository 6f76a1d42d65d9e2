"""A user's own pairs for tests, and how they are mined."""

from medi_build.content.mining_rule import MiningRule
from medi_build.mine.run import Encoders
from medi_build.pipeline.mine_file import Output, mine_file
from medi_build.pipeline.own_pairs import Columns, OwnPairs
from tests.mine.conftest import embed

PAIRS = [
    {"question": "what is tea", "passage": "tea is a hot drink"},
    {"question": "what is a fox", "passage": "a fox is a wild animal"},
    {"question": "", "passage": "nothing was asked"},
    {"question": "where is the sea", "passage": "the sea lies in the west"},
]
THINGS = ("tea", "fox", "sea", "door", "lamp", "pump")


def mined_file(
    source,
    out,
    *,
    embed=embed,
    rule,
    query_column=None,
    positive_column=None,
    negative_column=None,
    corpus=None,
    symmetric=False,
    formats=("triplet",),
    scores=False,
    others=None,
    instructions=(None, None),
    **options,
):
    """What `mine_file` writes, each thing it is told by its own name."""
    pairs = OwnPairs(str(source), Columns(query_column, positive_column, negative_column), corpus, symmetric)
    encoders = Encoders(embed, others or {}, instructions)
    return mine_file(pairs, Output(out, formats, scores), encoders, rule, **options)


def run(source, out, **options):
    return mined_file(source, out, rule=MiningRule(), query_column="question", positive_column="passage", **options)


def own(source, out, rule, formats, encoder=embed, **options):
    return mined_file(source, out, embed=encoder, rule=rule, formats=formats, **options)
