"""Does length alone tell positive from negative?"""

import numpy as np
import pytest

from medi_build.mine.shortcuts import length_auc, note_length_shortcut


def test_length_auc():
    assert length_auc(np.array([1, 2, 3]), np.array([4, 5, 6])) == 1.0
    assert length_auc(np.array([4, 5]), np.array([1, 2])) == 1.0
    assert length_auc(np.array([1, 2, 3]), np.array([1, 2, 3])) == 0.5
    assert length_auc(np.array([], dtype=np.int64), np.array([1])) == 0.5
    a, b = np.array([1, 3, 5, 5]), np.array([2, 3, 5])
    pairs = [(x > y) + 0.5 * (x == y) for x in a for y in b]
    assert length_auc(a, b) == pytest.approx(max(np.mean(pairs), 1 - np.mean(pairs)))


def test_a_length_shortcut_is_flagged(ledger):
    note_length_shortcut(np.array([1, 2, 3]), np.array([1, 2, 3]), ledger)
    assert (dict(ledger.notes), ledger.measures) == ({}, {"length_auc": 0.5})
    note_length_shortcut(np.array([7, 8, 9]), np.array([1, 2, 8]), ledger)
    assert ledger.measures["length_auc"] == 0.8333  # seven of nine pairs and a tie
    assert ledger.notes["length_shortcut"] == 3
