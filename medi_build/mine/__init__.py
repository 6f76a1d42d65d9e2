"""Pair rules: which texts become the positive and the hard negatives of an example. `by_kind.mine` is the entry."""
