import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from medi_build.encode import merge as merge_module
from medi_build.encode import segments as segments_module
from medi_build.encode import store as store_module
from medi_build.encode.segments import SUFFIX, CorruptSegmentError, SegmentFile, find, write_segment
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


def put_each(store, parts):
    """Put part after part, and let a merge that one sets off come to its end."""
    for names in parts:
        put(store, names)
        for thread in threading.enumerate():
            if thread.name == "medi-merge":
                thread.join()


def known(store, names, identity="e"):
    """How many are found; those that are found have to be right."""
    keys = keys_for(names, identity)
    found = store.get(identity, keys)
    if found.mask.any():
        assert (found.vectors[found.mask] == vectors_of(keys)[found.mask]).all()
        assert (found.flags[found.mask] == flags_of(keys)[found.mask]).all()
    assert not found.vectors[~found.mask].any()
    return int(found.mask.sum())


def flip(path, column):
    """Alter one bit within a column of a segment."""
    with pa.memory_map(str(path)) as file:
        values = pa.ipc.open_file(file).get_batch(0).column(column)
        values = values.values if column == "vector" else values
        at = values.buffers()[1].address - file.read_buffer().address
    data = bytearray(path.read_bytes())
    data[at + 7] ^= 0x40
    path.write_bytes(data)


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
        put_each(store, [range(start, start + 3)])  # neighbours overlap by one
        assert known(reader, range(start + 3)) == start + 3
    assert len(segments(tmp_path)) < 16
    assert known(VectorStore(tmp_path), range(61)) == 61
    assert sum(map(len, map(SegmentFile, segments(tmp_path)))) < 90  # what two have is in the merged one once


def test_only_segments_of_like_size_merge_and_large_ones_never(tmp_path, monkeypatch):
    monkeypatch.setattr(merge_module, "_LARGE", 1 << 18)
    put(VectorStore(tmp_path), range(10_000))
    (large,) = segments(tmp_path)
    written = 0
    for start in range(20_000, 20_000 + 150 * 20, 20):
        before = set(segments(tmp_path))
        put_each(VectorStore(tmp_path), [range(start, start + 20)])
        written += sum(len(SegmentFile(path)) for path in set(segments(tmp_path)) - before)
    assert large in segments(tmp_path)
    assert len(segments(tmp_path)) < 2 * 16
    assert written < 3 * 150 * 20  # put, and copied once or twice
    assert known(VectorStore(tmp_path), [*range(10_000), *range(20_000, 23_000)]) == 13_000


def test_a_put_does_not_wait_for_a_merge(tmp_path, monkeypatch):
    let_go, at_work = threading.Event(), threading.Event()

    def slow(*given):
        at_work.set()
        assert let_go.wait(60)
        return write_segment(*given)

    monkeypatch.setattr(merge_module, "write_segment", slow)
    store = VectorStore(tmp_path)
    for start in range(0, 40, 2):
        put(store, range(start, start + 2))
    assert at_work.wait(60)
    put(store, range(40, 50))
    assert len(segments(tmp_path)) == 21
    let_go.set()
    put_each(store, [range(50, 52)])
    assert len(segments(tmp_path)) == 7
    assert known(store, range(52)) == 52


def test_no_merge_while_another_process_is_at_it(tmp_path):
    with FileLock(tmp_path / "e.lock"):
        put_each(VectorStore(tmp_path), ([name] for name in range(20)))
        assert len(segments(tmp_path)) == 20
    put_each(VectorStore(tmp_path), [[20]])
    assert len(segments(tmp_path)) == 6


def test_an_error_of_a_merge_is_a_warning(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merge_module, "write_segment", fail)
    store = VectorStore(tmp_path)
    with pytest.warns(UserWarning, match=r"cannot be merged .*No space left on device.*nothing is lost"):
        put_each(store, ([name] for name in range(20)))
    assert known(VectorStore(tmp_path), range(20)) == 20


@pytest.mark.parametrize("cut", [0, 10, 63, 1000, 2500, -1])
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


@given(st.data())
def test_a_flipped_bit_never_gives_a_wrong_vector(tmp_path_factory, data):
    folder, keys = tmp_path_factory.mktemp("e"), keys_for(range(50))
    path = write_segment(folder, keys, [vectors_of(keys)], flags_of(keys))
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    try:
        segment = SegmentFile(path)
        vectors = segment.vectors()
    except (CorruptSegmentError, StoreError):
        return
    have = np.stack([segment.high, segment.low], axis=1)  # the bit was in padding, or said twice
    assert sorted(map(tuple, have)) == sorted(map(tuple, keys))
    assert (vectors == vectors_of(have)).all()
    assert (segment.flags == flags_of(have)).all()


@pytest.mark.parametrize("column", ["key_high", "key_low", "flags", "vector"])
def test_a_flipped_byte_of_a_column_puts_the_segment_aside(tmp_path, column):
    put(VectorStore(tmp_path), range(50))
    flip(segments(tmp_path)[0], column)
    with pytest.warns(UserWarning, match=f"its {'vectors' if column == 'vector' else 'keys'} have changed"):
        assert known(VectorStore(tmp_path), range(50)) == 0


def test_other_tools_read_a_segment(tmp_path):
    put(VectorStore(tmp_path), range(200))
    (path,) = segments(tmp_path)
    keys = keys_for(range(200))
    vectors = {tuple(key): vector.tolist() for key, vector in zip(keys.tolist(), vectors_of(keys), strict=True)}
    flags = {tuple(key): flag for key, flag in zip(keys.tolist(), flags_of(keys).tolist(), strict=True)}
    frame = pl.read_ipc(path)
    assert frame.schema["vector"] == pl.Array(pl.Float16, 16)
    assert {(high, low): flag for high, low, flag, _ in frame.iter_rows()} == flags
    assert {(high, low): list(vector) for high, low, _, vector in frame.iter_rows()} == vectors
    table = pa.ipc.open_file(path).read_all()
    assert table.schema.metadata[b"encoder"] == b"e"
    wide = table.set_column(3, "vector", table["vector"].cast(pa.list_(pa.float32(), 16)))  # noqa: F841
    rows = duckdb.sql("select key_high, key_low, vector from wide where flags = 3").fetchall()
    assert {(high, low): list(vector) for high, low, vector in rows} == {
        key: vector for key, vector in vectors.items() if flags[key] == 3
    }


def test_an_encoder_in_another_format_is_refused_untouched_until_gc_takes_it(tmp_path):
    store = VectorStore(tmp_path)
    put(store, range(5))
    put(store, range(7), identity="other")
    about = tmp_path / "e" / "encoder.json"
    about.write_text(json.dumps({"format": 1, **ABOUT}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    store = VectorStore(tmp_path)
    for refused in (known, put):
        with pytest.raises(StoreError, match=f"format 1, this medi reads 2.*gc --store {tmp_path} --identity e'"):
            refused(store, range(5))
    assert known(store, range(7), identity="other") == 7
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    usage = {one.identity: (one.format, one.vectors, one.about) for one in store.describe()}
    assert usage == {"e": (1, 0, ABOUT), "other": (2, 7, ABOUT)}
    assert [one.identity for one in store.gc(identity="e")] == ["e"]
    put(store, range(5))
    assert known(store, range(5)) == 5


def test_a_segment_of_another_version_among_ours_is_left_aside(tmp_path, monkeypatch):
    put(VectorStore(tmp_path), range(5))
    monkeypatch.setattr(segments_module, "FORMAT_VERSION", 7)
    put(VectorStore(tmp_path), range(5, 9))
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="left aside, it has store format 7"):
        assert known(VectorStore(tmp_path), range(9)) == 5


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
    for number in range(start, start + 200, 4):
        put(store, range(number, number + 4))
        print(number + 4, flush=True)
    """
)


def writer(root, start):
    command = [sys.executable, "-c", WRITER, str(root), str(start), os.path.dirname(__file__)]  # noqa: PTH120
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_write_at_once(tmp_path):
    processes = [writer(tmp_path, 0), writer(tmp_path, 100)]  # half of the names are the other's too
    assert [process.wait() for process in processes if process.communicate()] == [0, 0]
    assert known(VectorStore(tmp_path), range(300)) == 300
    assert not list(tmp_path.rglob("*.tmp"))


def test_kill_in_the_middle_of_puts_loses_nothing_committed(tmp_path):
    process = writer(tmp_path, 0)
    for line in process.stdout:
        if line.strip() == "160":
            break
    os.kill(process.pid, signal.SIGKILL)
    committed = max([160, *(int(line) for line in process.stdout if line.strip().isdigit())])
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
    monkeypatch.setattr(segments_module, "_SPILL_BYTES", 100)
    monkeypatch.setattr(store_module, "_GATHER", 7)
    store = VectorStore(tmp_path / "new")
    assert not store.room(10, 8).any()
    put(store, range(50))
    assert isinstance(store.get("e", keys_for(range(60))).vectors, np.memmap)
    assert known(store, range(60)) == 50
    assert sorted(path.suffix for path in (tmp_path / "new" / "e").iterdir()) == [SUFFIX, ".json"]


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
    flip(segments(tmp_path)[0], "vector")
    store = VectorStore(tmp_path)
    with pytest.warns(UserWarning, match="its vectors have changed"):
        put_each(store, (range(start, start + 2) for start in range(5, 55, 2)))
    assert known(VectorStore(tmp_path), range(55)) == 50
    assert len(segments(tmp_path)) < 16


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
    monkeypatch.setattr(merge_module, "_STALE_SECONDS", -1.0)
    put_each(store, (range(start, start + 3) for start in range(3, 60, 3)))
    assert not left.exists()
    assert known(store, range(60)) == 60


def test_segments_are_sorted_and_of_equal_keys_the_last_is_kept(tmp_path):
    keys = keys_for([*range(1000), *range(500)])
    vectors = vectors_of(keys)
    vectors[:500] = -1
    segment = SegmentFile(write_segment(tmp_path, keys, [vectors[:300], vectors[300:]], flags_of(keys)))
    assert len(segment) == 1000
    assert (segment.high[1:] >= segment.high[:-1]).all()
    assert (segment.vectors() == vectors_of(np.stack([segment.high, segment.low], axis=1))).all()
    assert not segment.vectors().flags.owndata  # it lies in the file
