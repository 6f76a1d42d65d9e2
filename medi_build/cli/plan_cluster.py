"""What ``medi plan --executor ray`` adds: the same build on so many nodes like this machine."""

from typing import TYPE_CHECKING

from medi_build.errors import OptionError

if TYPE_CHECKING:
    from medi_build.pipeline.cluster_plan import ClusterPlan, Node
    from medi_build.pipeline.estimate import Estimate
    from medi_build.pipeline.plan import Plan


def on_a_cluster(
    figures: "Estimate",
    plan: "Plan",
    device: str | None,
    texts_per_second: float | None,
    price: float | None,
    split_above: int | None,
) -> tuple["ClusterPlan", "Node"]:
    """The figures for nodes of which each does what this machine does, which is timed.

    Raises:
        OptionError: nothing is left to build, or nobody tells how fast the encoder is.
    """
    from medi_build.mine.filters import depth
    from medi_build.pipeline.cluster_plan import Node, cluster_plan
    from medi_build.pipeline.estimate import USUAL_DIMENSION
    from medi_build.pipeline.survey import scores_per_second

    speed = texts_per_second or (figures.speed.texts_per_second if figures.speed else None)
    if speed is None:
        raise OptionError(
            f"{plan.pipeline.encoder.model} is not here to be timed; give --texts-per-second, of 100 tokens each, "
            "that a node encodes"
        )
    if not figures.datasets:
        raise OptionError("no dataset has files here or elsewhere, so there is nothing to plan for a cluster")
    dimension = figures.speed.dimension if figures.speed else USUAL_DIMENSION
    node = Node(speed, scores_per_second(dimension, device), price)
    return cluster_plan(figures, node, depth(plan.pipeline.mining), split_above), node


def lines(found: "ClusterPlan", node: "Node") -> list[str]:
    """A line for what one node does, one for the network, and one for each number of nodes."""
    told = [
        f"cluster  {found.encoding + found.searching:,.1f} node hours at most: {found.encoding:,.1f} of encoding "
        f"({node.texts_per_second:,.1f} texts a second and node), {found.searching:,.1f} of dense search "
        f"({node.scores_per_second / 1e6:,.0f} million scores a second, measured here); adapting, BM25, filters and "
        "writing are not counted",
        f"longest  {found.longest}, {found.longest_hours:,.1f} hours on one node",
        f"network  {found.network / 1e9:,.1f} GB between nodes, raw files not counted",
    ]
    for one in found.on:
        money = "" if one.money is None else f", {one.money:,.2f} in money"
        told.append(f"nodes    {one.nodes}: {one.hours:,.2f} h{money}, {one.vectors / 1e9:,.1f} GB of vectors each")
    return told
