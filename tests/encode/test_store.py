import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.encode import store as store_module
from medi_build.encode.segments import SUFFIX, Segment, find, write_segment
from medi_build.encode.store import VectorStore, keys_of
from medi_build.errors import StoreError

ABOUT = {"model": "m", "revision": None}


def vectors_of(keys, dimension=16):
    """Vectors that follow from their keys, so that any mix-up shows; float16 [n, d]."""
    return ((keys[:, :1] >> np.arange(dimension, dtype=np.uint64)) % np.uint64(1000)).astype(np.float16)


def flags_of(keys):
    return (keys[:, 1] % np.uint64(4)).astype(np.uint8)


def keys_for(names, identity="e"):
    return keys_of(identity, "", [str(name) for name in names])


def put(store, names, identity="e"):
    keys = keys_for(names, identity)
    store.put(identity, ABOUT, keys, vectors_of(keys), flags_of(keys))


def known(store, names, identity="e"):
    """How many are found; those that are found have to be right."""
    keys = keys_for(names, identity)
    found = store.get(identity, keys)
    if found.mask.any():
        assert (found.vectors[found.mask] == vectors_of(keys)[found.mask]).all()
        assert (found.flags[found.mask] == flags_of(keys)[found.mask]).all()
    assert not found.vectors[~found.mask].any()
    return int(found.mask.sum())


def segments(root):
    return sorted(root.glob(f"*/*{SUFFIX}"))


def test_what_was_put_is_found_again_by_another_store(tmp_path):
    store = VectorStore(tmp_path / "store")
    assert known(store, range(5)) == 0
    put(store, range(100))
    put(store, range(100, 150))
    for one in (store, VectorStore(tmp_path / "store")):
        assert known(one, [149, 0, 77, 0, 1000, 100]) == 5
        assert known(one, range(150), identity="other") == 0


def test_instructions_identities_and_texts_have_keys_of_their_own():
    keys = [keys_of("a", "b", ["c"]), keys_of("ab", "", ["c"]), keys_of("a", "", ["bc"]), keys_of("a", "bc", [""])]
    assert len({key.tobytes() for key in keys}) == 4
    assert (keys_of("a", "b", ["x", "c"])[1] == keys[0][0]).all()
    assert keys_of("a", "", ["\ud800 lone surrogate"]).shape == (1, 2)
    assert keys_of("a", "", []).shape == (0, 2)


halves = st.integers(0, 3)


@given(st.sets(st.tuples(halves, halves)), st.lists(st.tuples(halves, halves)))
def test_find_with_colliding_halves_agrees_with_a_dict(have, wanted):
    keys = np.array(sorted(have), dtype=np.uint64).reshape(-1, 2)
    place = {key: i for i, key in enumerate(sorted(have))}
    got = find(keys[:, 0], keys[:, 1], np.array(wanted, dtype=np.uint64).reshape(-1, 2))
    assert got.tolist() == [place.get(key, -1) for key in wanted]


def test_many_small_segments_merge_and_nothing_is_lost(tmp_path):
    store, reader = VectorStore(tmp_path), VectorStore(tmp_path)
    for start in range(0, 60, 2):
        put(store, range(start, start + 3))  # neighbours overlap by one
        assert known(reader, range(start + 3)) == start + 3
    assert len(segments(tmp_path)) < 20
    assert known(VectorStore(tmp_path), range(61)) == 61


@pytest.mark.parametrize("cut", [0, 10, 63, 64, 200, -1])
def test_a_truncated_segment_is_left_aside_with_a_warning(tmp_path, cut):
    put(VectorStore(tmp_path), range(50))
    (first,) = segments(tmp_path)
    put(VectorStore(tmp_path), range(50, 60))
    first.write_bytes(first.read_bytes()[:cut])
    store = VectorStore(tmp_path)
    with pytest.warns(UserWarning, match=f"{first.name}: left aside"):
        assert known(store, range(60)) == 10
    put(store, range(50))
    assert first.with_suffix(".corrupt").exists()
    assert known(VectorStore(tmp_path), range(60)) == 60


@pytest.mark.parametrize("at", [0, 20, 30, 70, 900, -1])
def test_a_flipped_byte_never_gives_a_wrong_vector(tmp_path, at):
    put(VectorStore(tmp_path), range(50))
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="left aside"):
        assert known(VectorStore(tmp_path), range(50)) == 0


def test_a_store_of_another_version_is_refused_and_untouched(tmp_path):
    put(VectorStore(tmp_path), range(5))
    about = tmp_path / "e" / "encoder.json"
    about.write_text(json.dumps({"format": 99}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="store format 99, this medi reads 1"):
        VectorStore(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_segment_of_another_version_is_refused(tmp_path):
    put(VectorStore(tmp_path), range(5))
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    data[8] = 7
    path.write_bytes(data)
    with pytest.raises(StoreError, match="store format 7"):
        known(VectorStore(tmp_path), range(5))


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        VectorStore(tmp_path / "file")


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[3])
    from test_store import put
    from medi_build.encode.store import VectorStore
    store, start = VectorStore(Path(sys.argv[1])), int(sys.argv[2])
    print("ready", flush=True)
    for number in range(start, start + 200, 10):
        put(store, range(number, number + 10))
        print(number + 10, flush=True)
    """
)


def writer(root, start):
    command = [sys.executable, "-c", WRITER, str(root), str(start), os.path.dirname(__file__)]  # noqa: PTH120
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_write_at_once(tmp_path):
    processes = [writer(tmp_path, 0), writer(tmp_path, 100)]  # half of the names are the other's too
    assert [process.wait() for process in processes if process.communicate()] == [0, 0]
    assert known(VectorStore(tmp_path), range(300)) == 300
    assert not list(tmp_path.rglob("*.tmp"))


def test_kill_in_the_middle_of_puts_loses_nothing_committed(tmp_path):
    process = writer(tmp_path, 0)
    for line in process.stdout:
        if line.strip() == "150":
            break
    os.kill(process.pid, signal.SIGKILL)
    committed = max([150, *(int(line) for line in process.stdout if line.strip().isdigit())])
    process.wait()
    store = VectorStore(tmp_path)
    assert known(store, range(committed)) == committed
    put(store, range(1000, 1010))
    assert known(VectorStore(tmp_path), [*range(committed), *range(1000, 1010)]) == committed + 10


@pytest.mark.parametrize("limit", [0, 100, 3000])
def test_a_full_disk_is_a_store_error_and_leaves_no_segment(tmp_path, limit):
    put(VectorStore(tmp_path), range(10))
    before = sorted(tmp_path.rglob("*"))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot be stored .*make room"):
            put(VectorStore(tmp_path), range(10, 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert sorted(tmp_path.rglob("*")) == before
    assert known(VectorStore(tmp_path), range(200)) == 10


def test_large_results_lie_in_a_file_and_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_SPILL_BYTES", 100)
    monkeypatch.setattr(store_module, "_GATHER", 7)
    store = VectorStore(tmp_path / "new")
    assert not store.room(10, 8).any()
    put(store, range(50))
    assert isinstance(store.get("e", keys_for(range(60))).vectors, np.memmap)
    assert known(store, range(60)) == 50
    assert sorted(path.suffix for path in (tmp_path / "new" / "e").iterdir()) == [".json", SUFFIX]


def test_describe_and_gc(tmp_path):
    store = VectorStore(tmp_path)
    put(store, range(10), identity="old")
    put(store, range(30), identity="new")
    week_ago = time.time() - 7 * 86400
    os.utime(tmp_path / "old" / "encoder.json", (week_ago, week_ago))
    usage = store.describe()
    assert [(one.identity, one.vectors, one.about) for one in usage] == [("new", 30, ABOUT), ("old", 10, ABOUT)]
    assert usage[1].last_used == pytest.approx(week_ago, abs=1)
    assert usage[0].size_bytes > 30 * 32
    assert store.gc(older_than_days=8) == []
    assert [one.identity for one in store.gc(older_than_days=6)] == ["old"]
    assert [one.identity for one in store.gc(identity="new")] == ["new"]
    assert store.describe() == []
    with pytest.raises(StoreError, match="-1 days"):
        store.gc(older_than_days=-1)
    put(store, range(10), identity="old")
    assert known(store, range(10), identity="old") == 10


def test_looking_up_counts_as_use(tmp_path):
    store = VectorStore(tmp_path)
    put(store, range(10))
    os.utime(tmp_path / "e" / "encoder.json", (0, 0))
    known(store, range(3))
    assert store.describe()[0].last_used > time.time() - 60


def test_a_damaged_segment_does_not_stop_a_merge(tmp_path):
    put(VectorStore(tmp_path), range(5))
    (damaged,) = segments(tmp_path)
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    store = VectorStore(tmp_path)
    with pytest.warns(UserWarning, match="its vectors have changed"):
        for start in range(5, 55, 2):
            put(store, range(start, start + 2))
    assert known(VectorStore(tmp_path), range(55)) == 50
    assert len(segments(tmp_path)) < 17


def test_a_folder_taken_away_by_gc_comes_back(tmp_path):
    writing, other = VectorStore(tmp_path), VectorStore(tmp_path)
    put(writing, range(5))
    other.gc(identity="e")
    put(writing, range(5, 9))
    assert known(writing, range(9)) == known(VectorStore(tmp_path), range(9)) == 4


def test_stale_temporary_files_go_with_a_merge(tmp_path, monkeypatch):
    store = VectorStore(tmp_path)
    put(store, range(3))
    left = tmp_path / "e" / ".deadbeef.tmp"
    left.write_bytes(b"half a segment")
    monkeypatch.setattr(store_module, "_STALE_SECONDS", -1.0)
    for start in range(3, 60, 3):
        put(store, range(start, start + 3))
    assert not left.exists()
    assert known(store, range(60)) == 60


def test_segments_are_sorted_and_aligned(tmp_path):
    keys = keys_for(range(1000))
    segment = Segment(write_segment(tmp_path, keys, vectors_of(keys), flags_of(keys)))
    assert (segment.high[1:] >= segment.high[:-1]).all()
    assert segment.vectors().ctypes.data % 64 == 0
    assert isinstance(segment.vectors().base, np.memmap | np.ndarray)
