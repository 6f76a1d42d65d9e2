"""Exact search over arrays: dense top-k, BM25, their fusion; nothing here knows what a dataset is."""
