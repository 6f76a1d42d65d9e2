"""Chooses the 300 Super-NaturalInstructions tasks that stand for the paper's.

The paper says that MEDI holds 300 Super-NI tasks and never lists them, and neither does its repository. What
follows is our own choice, not a reconstruction: `docs/decisions/0001-the-300-super-ni-tasks.md` argues for it.

``python tools/choose_super_ni_tasks.py sources/super_ni_tasks.tsv`` writes the choice into the table. Tasks that
``super_ni_overrides.tsv`` beside it marks as ``wrong`` (their outputs are wrong answers) are not chosen.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from medi_build.content.super_ni_tasks import TaskFacts, load_overrides, load_tasks, save_tasks
from medi_build.errors import ContentError

COUNT = 300
"""Super-NI tasks in MEDI (Su et al. 2023, section 2.3)."""
SEED = 0


def choose(tasks: Sequence[TaskFacts], wrong: Collection[str] = (), count: int = COUNT, seed: int = SEED) -> list[str]:
    """Choose ``count`` tasks, as even over the categories as their sizes allow.

    Eligible are the tasks of the train split with English inputs and outputs, a confirmed category and outputs that
    are not wrong on purpose. They are dealt in rounds, one task of each category per round, until ``count`` are
    dealt; a category leaves when it is used up. So every category has its first task before any has its second, and
    a big one (Question Answering has one train task in five) gets no more than its equal share while others still
    have tasks to give. The last, incomplete round goes to the categories with most tasks. Inside a category the
    order is that of a hash of the seed and the task's name: no preference, and the same on every machine.

    Args:
        tasks: the table, in any order.
        wrong: names of the tasks whose outputs are wrong answers.
        count: how many to choose.
        seed: another seed chooses other tasks of the same categories.

    Returns:
        Names, sorted by task number, then name.

    Raises:
        ContentError: fewer than ``count`` tasks are eligible.
    """
    categories: defaultdict[str, list[TaskFacts]] = defaultdict(list)
    for facts in tasks:
        if facts.split == "train" and facts.category and is_english(facts) and facts.task not in wrong:
            categories[facts.category].append(facts)
    dealt = []
    for members in categories.values():
        members.sort(key=lambda facts: _draw(seed, facts.task))
        dealt += [(turn, -len(members), facts.category, facts.number, facts.task) for turn, facts in enumerate(members)]
    if not 0 <= count <= len(dealt):
        raise ContentError(
            f"cannot choose {count} Super-NI tasks: {len(dealt)} of {len(tasks)} are in the train split, English "
            f"in and out, of a known category and not wrong on purpose; choose between 0 and {len(dealt)}"
        )
    chosen = sorted(dealt)[:count]
    return [task for _, task in sorted((number, task) for *_, number, task in chosen)]


def wrong_tasks(overrides: Path) -> set[str]:
    """Names of the tasks that the table of overrides marks as ``wrong``."""
    return {task for task, override in load_overrides(overrides).items() if override.outputs == "wrong"}


def is_english(facts: TaskFacts) -> bool:
    """Whether inputs and outputs are English and nothing else."""
    return facts.input_language == facts.output_language == "English"


def _draw(seed: int, task: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{task}".encode(), digest_size=8).digest()


def main() -> None:
    """Write the choice into the table named on the command line."""
    path = Path(sys.argv[1])
    tasks = load_tasks(path)
    chosen = set(choose(tasks, wrong_tasks(path.with_name("super_ni_overrides.tsv"))))
    save_tasks(path, [replace(facts, medi=facts.task in chosen) for facts in tasks])


if __name__ == "__main__":
    main()
