"""What mining is asked with, beside the dataset: the encoders, and how they are used."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.marks import Mark
from medi_build.devices import Device
from medi_build.embedding import Embed, Prompt, both_sides
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from medi_build.mine.explain import Explainer
from medi_build.share import WHOLE, Split


@dataclass(frozen=True)
class Encoders:
    """Encoders of texts, and under which instructions they encode.

    Attributes:
        main: the encoder that mines.
        others: those that the rule names (``rule.others``), by these names; only kind "pairs" asks them.
        instructions: of the query and of the document side, for encoding only; None for what the encoder has saved for
            the side. The rule's further ``encoders`` take them, too; its guide takes what it has saved.
    """

    main: Embed
    others: Mapping[str, Embed] = field(default_factory=dict)
    instructions: tuple[str | None, str | None] = (None, None)

    def prompts(self, *, alike: bool) -> tuple[Prompt, Prompt]:
        """Those of queries and of documents, see `both_sides`."""
        return both_sides(self.instructions, alike=alike)

    def check(self, rule: MiningRule) -> None:
        """Raise `MiningError` unless every encoder that the rule names is among the others."""
        missing = [name for name in rule.others if name not in self.others]
        if missing:
            raise MiningError(
                f"the rule names the encoders {', '.join(missing)}, which were not passed; give them as others, "
                "{name: encoder}"
            )


@dataclass(frozen=True)
class Run:
    """How a dataset is mined.

    Attributes:
        rule: the knobs.
        seed: for every choice that is not by score.
        ledger: dropped rows are counted in stage "mine", rejected candidates in notes ``rejected_{reason}``.
        device: where to search; the result is the same everywhere.
        split: how searches are handed out; the result is the same however that is.
        marks: what people found wrong in the dataset.
        explain: told what was looked at for each row, or None.
    """

    rule: MiningRule
    seed: int
    ledger: Ledger
    device: Device = "cpu"
    split: Split = WHOLE
    marks: tuple[Mark, ...] = ()
    explain: Explainer | None = None
