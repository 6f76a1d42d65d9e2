"""Which rows meet in which batch: planned ahead for the whole run, from integer hashes, in about linear time.

A batch holds rows of one task. Two rows are kept apart where one would be a false negative of the other: same query,
same positive, same class, same page, or a negative that is another row's query or positive. Nothing is dropped for
that: a row that does not fit moves to a later batch, and the batches of a task are levelled to like sizes.

The plan depends on the data, the settings and the seed alone. Under several processes all make the same plan, and
each takes its slice of every batch.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from medi_build.arrays import Hashes, Ints
from medi_build.errors import TrainError
from medi_build.train.conflicts import TaskConflicts, find_conflicts
from medi_build.train.keys import RowKeys

Classes = Literal["own-negative", "apart", "mixed"]
"""What to do with tasks that have classes: leave out their in-batch negatives, keep equal classes out of each
other's batches (as many rows as there are classes), or neither, as the public trainer does."""


@dataclass(frozen=True)
class BatchSettings:
    """How rows are drawn and batched.

    Attributes:
        batch_size: rows of a batch, over all processes together.
        processes: every batch has a multiple of this many rows.
        seed: of all random choices.
        epochs: passes over the (capped) data; ignored if `steps` is given.
        steps: number of batches.
        task_cap: at most so many rows of a task in a pass; later passes go on with its other rows.
        task_temperature: a task's share of a pass is proportional to rows ** (1 / temperature).
        classes: see `Classes`.
    """

    batch_size: int = 64
    processes: int = 1
    seed: int = 42
    epochs: float = 1.0
    steps: int | None = None
    task_cap: int | None = None
    task_temperature: float = 1.0
    classes: Classes = "own-negative"

    def __post_init__(self) -> None:
        """Raise `TrainError` for settings that make no sense."""
        checks = [
            ("batch_size", self.batch_size, self.batch_size >= 1, "at least 1"),
            ("processes", self.processes, self.processes >= 1, "at least 1"),
            ("epochs", self.epochs, 0 < self.epochs < math.inf, "above 0"),
            ("steps", self.steps, self.steps is None or self.steps >= 1, "at least 1"),
            ("task_cap", self.task_cap, self.task_cap is None or self.task_cap >= 1, "at least 1"),
            ("task_temperature", self.task_temperature, 0 < self.task_temperature < math.inf, "above 0"),
        ]
        for name, value, good, allowed in checks:
            if not good:
                raise TrainError(f"{name} is {value}, but must be {allowed}")
        if self.batch_size % self.processes:
            raise TrainError(
                f"a batch of {self.batch_size} rows cannot be shared equally by {self.processes} processes; "
                f"choose a multiple of {self.processes}"
            )


@dataclass
class PlanReport:
    """What the planner did.

    Attributes:
        rows: rows in all batches.
        batches: number of batches.
        tasks: task id -> (rows it has, rows of it in all batches).
        contested: how many rows share their query, positive, negative, class, page or possible false negative with a
            row of their task in a way that could make a false negative. The kinds overlap.
        moved: placements put off to a later batch for that.
        repeated: rows taken twice to make a batch divisible by the number of processes.
        left_out: rows left out of a pass because their task had too few rows for the processes.
    """

    rows: int = 0
    batches: int = 0
    tasks: dict[int, tuple[int, int]] = field(default_factory=dict)
    contested: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    repeated: int = 0
    left_out: int = 0

    def lines(self) -> list[str]:
        """The report as a few lines of text."""
        mean = self.rows / max(self.batches, 1)
        lines = [f"{self.rows:,} rows of {len(self.tasks):,} tasks in {self.batches:,} batches (mean {mean:.1f} rows)"]
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.contested.items()) if count)
        if kinds:
            lines.append(f"rows that share something with another row of their task: {kinds}; moved {self.moved:,}")
        if self.repeated or self.left_out:
            lines.append(f"for the number of processes: {self.repeated:,} rows repeated, {self.left_out:,} left out")
        return lines


@dataclass(frozen=True)
class BatchPlan:
    """All batches of a run, in order.

    Attributes:
        rows: int64, the rows of all batches end to end.
        offsets: int64 [batches + 1]; batch ``i`` is ``rows[offsets[i]:offsets[i + 1]]``.
        report: what was done.
    """

    rows: Ints
    offsets: Ints
    report: PlanReport

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def batch(self, index: int, process: int = 0, processes: int = 1) -> Ints:
        """The rows of batch ``index``, or one process's equal slice of them."""
        start, end = self.offsets[index], self.offsets[index + 1]
        size = (end - start) // processes
        return self.rows[start + process * size : start + (process + 1) * size]


class PlannedSampler:
    """Gives one process's slices of the planned batches, for a DataLoader's ``batch_sampler``."""

    def __init__(self, plan: BatchPlan, process: int = 0, processes: int = 1) -> None:
        self.plan, self.process, self.processes = plan, process, processes

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[int]]:
        for index in range(len(self.plan)):
            yield self.plan.batch(index, self.process, self.processes).tolist()


def own_negative_tasks(keys: RowKeys, settings: BatchSettings) -> Ints:
    """Sorted ids of the tasks whose batches leave out in-batch negatives: those with classes, if so set."""
    if settings.classes != "own-negative":
        return np.empty(0, np.int64)
    return np.unique(keys.task[np.diff(keys.labels.offsets) > 0])


def plan_batches(keys: RowKeys, settings: BatchSettings) -> BatchPlan:
    """Plan every batch of a run.

    Raises:
        TrainError: if there are no rows.
    """
    if not len(keys.task):
        raise TrainError("there are no rows to train on")
    report = PlanReport()
    planners = _task_planners(keys, settings, report)
    sizes = np.array([len(planner.rows) for planner in planners])
    draws = rows_per_pass(sizes, settings.task_cap, settings.task_temperature)
    # A pass has a batch at least, so that as many passes as there are steps are enough.
    passes = math.ceil(settings.epochs) if settings.steps is None else settings.steps
    batches: list[Ints] = []
    for number in range(passes):
        one_pass = [
            batch for planner, draw in zip(planners, draws, strict=True) for batch in planner.one_pass(number, draw)
        ]
        if not one_pass:
            raise TrainError(f"no task has as many rows as there are processes ({settings.processes})")
        order = shuffled(len(one_pass), settings.seed, number, 0)
        batches += [one_pass[index] for index in order]
        if settings.steps is not None and len(batches) >= settings.steps:
            break
    if settings.steps is not None:
        return _assemble(batches[: settings.steps], keys.task, report)
    not_wanted = round((passes - settings.epochs) * len(one_pass))  # the last of 2.5 passes is cut in the middle
    return _assemble(batches[: max(1, len(batches) - not_wanted)], keys.task, report)


def _assemble(batches: list[Ints], task: Ints, report: PlanReport) -> BatchPlan:
    rows = np.concatenate(batches)
    offsets = np.concatenate([[0], np.cumsum([len(batch) for batch in batches])]).astype(np.int64)
    report.rows, report.batches = len(rows), len(batches)
    drawn = dict(zip(*np.unique(task[rows], return_counts=True), strict=True))
    for task_id, size in zip(*np.unique(task, return_counts=True), strict=True):
        report.tasks[int(task_id)] = (int(size), int(drawn.get(task_id, 0)))
    return BatchPlan(rows, offsets, report)


def rows_per_pass(sizes: Ints, cap: int | None, temperature: float) -> Ints:
    """How many rows of each task one pass takes: at least one, in all as many as the capped sizes make.

    Args:
        sizes: int64 [tasks], rows of each task.
        cap: the most rows of a task.
        temperature: 1 keeps the capped sizes; above 1 flattens them, so that small tasks repeat rows.
    """
    capped = np.minimum(sizes, cap) if cap is not None else sizes
    if temperature == 1.0:
        return capped.astype(np.int64)
    weights = (capped / capped.max()) ** (1.0 / temperature)
    exact = weights / weights.sum() * capped.sum()
    draws = np.floor(exact).astype(np.int64)
    short = int(capped.sum() - draws.sum())
    draws[np.argsort(draws - exact, kind="stable")[:short]] += 1
    at_least_one: Ints = np.maximum(draws, 1)
    return at_least_one


def shuffled(count: int, *seed: int) -> Ints:
    """A permutation of ``range(count)`` by splitmix64 of seed and index: the same everywhere and for ever."""
    state = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        for part in seed:
            state = _mix(np.array([part], np.int64).view(np.uint64) + state * np.uint64(3))[0]
        hashes = _mix(np.arange(1, count + 1, dtype=np.uint64) * (state | np.uint64(1)))
    return np.argsort(hashes, kind="stable")


def _mix(values: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele et al. 2014), wrapping."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed


def _task_planners(keys: RowKeys, settings: BatchSettings, report: PlanReport) -> list["_TaskPlanner"]:
    by_task = np.argsort(keys.task, kind="stable")
    task_ids, starts = np.unique(keys.task[by_task], return_index=True)
    apart = settings.classes == "apart"
    without = own_negative_tasks(keys, settings)
    planners = []
    for task_id, rows in zip(task_ids, np.split(by_task, starts[1:]), strict=True):
        conflicts = TaskConflicts({}) if task_id in without else find_conflicts(keys, rows, same_class=apart)
        report.contested += conflicts.kinds
        planners.append(_TaskPlanner(int(task_id), rows, conflicts, settings, report))
    return planners


@dataclass
class _TaskPlanner:
    """Draws the rows of one task pass by pass and puts them into batches. Rows are positions within the task."""

    task_id: int
    rows: Ints
    conflicts: TaskConflicts
    settings: BatchSettings
    report: PlanReport

    def one_pass(self, number: int, draw: int) -> Iterator[Ints]:
        """The batches of pass ``number``: the next ``draw`` rows of an endless row of shuffles of the task."""
        size = len(self.rows)
        start, end = number * draw, (number + 1) * draw
        for cycle in range(start // size, (end - 1) // size + 1):
            order = shuffled(size, self.settings.seed, self.task_id, cycle)
            part = order[max(start - cycle * size, 0) : end - cycle * size]
            for batch in self._batches(part):
                yield self.rows[batch]

    def _batches(self, order: Ints) -> Iterator[Ints]:
        """Split distinct rows, already shuffled, into batches without conflicts."""
        batch_size, quantum = self.settings.batch_size, self.settings.processes
        placed, count, moved = self.conflicts.place(order, batch_size)
        self.report.moved += moved
        fixed = np.bincount(placed[placed >= 0], minlength=count)
        anywhere = np.flatnonzero(placed < 0)
        free = _free_places(fixed, len(order), batch_size, quantum)
        placed[anywhere] = np.repeat(np.arange(count), free)[: len(anywhere)]
        by_batch, sizes = np.argsort(placed, kind="stable"), np.bincount(placed, minlength=count)
        for batch in np.split(order[by_batch], np.cumsum(sizes)[:-1]):
            whole = self._whole(batch, order, quantum)
            if len(whole):
                yield whole

    def _whole(self, batch: Ints, order: Ints, quantum: int) -> Ints:
        """Bring a batch to a multiple of ``quantum`` rows: repeat other rows of the task, or else leave rows out."""
        missing = -len(batch) % quantum
        if not missing:
            return batch
        extra = self.conflicts.compatible(batch, order, missing)
        if len(extra) == missing:
            self.report.repeated += missing
            return np.concatenate([batch, extra])
        kept = len(batch) - len(batch) % quantum
        self.report.left_out += len(batch) - kept
        return batch[:kept]


def _free_places(counts: Ints, rows: int, batch_size: int, quantum: int) -> Ints:
    """How many more rows each batch takes, so that the batches are level and their sizes multiples of ``quantum``.

    Args:
        counts: int64 [batches], rows that stand already.
        rows: rows there are in all.
        batch_size: the most rows of a batch.
        quantum: unit of the sizes.
    """
    units = -(-counts // quantum)
    extra = max(0, -(-rows // quantum) - int(units.sum()))
    level, highest = 0, batch_size // quantum
    while level < highest:  # search for the highest level that the extra units can fill everywhere
        middle = (level + highest + 1) // 2
        if np.maximum(middle - units, 0).sum() <= extra:
            level = middle
        else:
            highest = middle - 1
    added = np.maximum(level - units, 0)
    lowest = np.flatnonzero(units + added == level)
    added[lowest[: extra - int(added.sum())]] += 1  # what is left of them goes one above it
    free: Ints = (units + added) * quantum - counts
    return free
