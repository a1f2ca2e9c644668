import dataclasses
import itertools
import json
import math
import os
import sqlite3
import subprocess
import sys
import threading
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.ledger import Ledger
from tithe.ledger.payload import decode_payload, encode_payload

WRITER = """
import sys
from tithe.ledger import Ledger
path, name, count, every = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Ledger(path) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(0, count, every):
        ids = ledger.extend([("run", name, "count", {"i": j}) for j in range(i, i + every)])
        print(*ids, flush=True)
"""

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def ledger(path):
    with Ledger(path) as opened:
        yield opened


def start_writer(path, name, count, every=1):
    command = [sys.executable, "-c", WRITER, str(path), name, str(count), str(every)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def fill(path, events=200):
    with Ledger(path) as ledger:
        ledger.extend([("run", "system", "kind", {"text": "x" * 200, "i": i}) for i in range(events)])


# --- writing and reading


def test_what_was_appended_is_read_in_order(ledger):
    ids = [ledger.append("run-1", "product", "receipt", {"i": i}) for i in range(5)]
    assert ids == sorted(set(ids))
    events = ledger.read()
    assert [event.id for event in events] == ids
    assert [event.payload for event in events] == [{"i": i} for i in range(5)]
    assert {(event.run, event.system, event.kind) for event in events} == {("run-1", "product", "receipt")}
    assert all(before.time <= after.time for before, after in itertools.pairwise(events))
    with pytest.raises(dataclasses.FrozenInstanceError):
        events[0].run = "other"


def test_reading_filters(ledger):
    for run in "ab":
        for system in "st":
            for kind in "kl":
                ledger.append(run, system, kind, {})
    key = [(event.run, event.system, event.kind) for event in ledger.read()]
    assert len(key) == 8
    assert [(e.run, e.system, e.kind) for e in ledger.read(run="b", kind="k")] == [("b", "s", "k"), ("b", "t", "k")]
    assert [e.id for e in ledger.read(system="t", after=4)] == [7, 8]
    assert [e.id for e in ledger.read(limit=3, after=2)] == [3, 4, 5]
    assert ledger.read(run="c") == []
    assert ledger.read(run="a' OR 1=1 --") == []


def test_extend_writes_all_or_nothing(ledger):
    assert ledger.extend([]) == []
    assert ledger.extend([("r", "s", "k", {"i": i}) for i in range(3)]) == [1, 2, 3]
    with pytest.raises(InvalidDTypeError):
        ledger.extend([("r", "s", "k", {"i": 3}), ("r", "s", "k", {"i": object()})])
    with pytest.raises(ZeroDivisionError):
        ledger.extend(("r", "s", "k", {"i": 1 // i}) for i in (1, 0))
    assert len(ledger.read()) == 3
    assert ledger.append("r", "s", "k", {}) == 4


def test_a_failure_within_the_transaction_writes_nothing_and_leaves_the_ledger_usable(ledger):
    with pytest.raises(UnicodeEncodeError):
        ledger.extend([("r", "s", "k", {}), ("\ud800", "s", "k", {})])
    assert ledger.read() == []
    assert ledger.append("r", "s", "k", {}) == 1


def test_it_is_there_after_closing_and_the_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "runs.db"
    with Ledger(path) as ledger:
        ledger.append("r", "s", "k", {"x": 1})
    with Ledger(str(path)) as ledger:
        assert [event.payload for event in ledger.read()] == [{"x": 1}]
    assert sorted(p.name for p in path.parent.iterdir()) == ["runs.db"]


def test_a_closed_ledger_says_so(ledger):
    ledger.close()
    ledger.close()
    for use in (ledger.read, lambda: ledger.append("r", "s", "k", {}), lambda: next(ledger.tail())):
        with pytest.raises(InvalidStateError, match="has been closed"):
            use()


def test_a_change_of_folder_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Ledger(":memory:") as ledger:
        ledger.append("r", "s", "k", {})
        assert (tmp_path / ":memory:").exists()


# --- payloads


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_payloads_come_back_as_they_were(payload):
    text = encode_payload(payload)
    assert decode_payload(text) == payload
    json.loads(text, parse_constant=pytest.fail)  # strict JSON: no NaN or Infinity in the text


def test_nan_and_infinity_come_back_and_any_json_reader_can_read_them(ledger, path):
    ledger.append("r", "s", "k", {"loss": [math.nan, math.inf, -math.inf, np.float64("nan")], "at": 3})
    loss = ledger.read()[0].payload["loss"]
    assert [math.isnan(x) for x in loss] == [True, False, False, True]
    assert loss[1:3] == [math.inf, -math.inf]
    raw = sqlite3.connect(path)
    text = raw.execute("SELECT payload FROM events").fetchone()[0]
    raw.close()
    assert json.loads(text, parse_constant=pytest.fail)["at"] == 3


def test_tuples_come_back_as_lists(ledger):
    ledger.append("r", "s", "k", {"shape": (2, 3), "mean": np.float64(0.5)})
    assert ledger.read()[0].payload == {"shape": [2, 3], "mean": 0.5}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"a": [1, {"b": torch.ones(2)}]}, r"payload\['a'\]\[1\]\['b'\] is a torch.Tensor"),
        ({"a": np.float32(1)}, "numpy.float32"),
        ({"a": np.ones(2)}, "numpy.ndarray"),
        ({"a": Decimal(1)}, "decimal.Decimal"),
        ({"a": b"x"}, "builtins.bytes"),
        ({"a": {1, 2}}, "builtins.set"),
        ({"a": {1: 2}}, r"payload\['a'\] has the key 1 of type int"),
        ([1], "the payload is a list"),
        ("text", "the payload is a str"),
        (None, "the payload is a NoneType"),
    ],
)
def test_what_json_cannot_hold_is_named(ledger, payload, words):
    with pytest.raises(InvalidDTypeError, match=words):
        ledger.append("r", "s", "k", payload)
    assert ledger.read() == []


def test_reserved_keys_and_circles_are_refused(ledger):
    with pytest.raises(InvalidValueError, match="reserved"):
        ledger.append("r", "s", "k", {"a": {"$float": "nan"}})
    circle = {}
    circle["again"] = circle
    with pytest.raises(InvalidValueError, match="contains itself"):
        ledger.append("r", "s", "k", circle)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_run_system_and_kind_are_named_strings(ledger, place):
    for wrong, error in ((3, InvalidDTypeError), ("", InvalidValueError), (None, InvalidDTypeError)):
        event = ["r", "s", "k"]
        event[place] = wrong
        with pytest.raises(error, match=("run", "system", "kind")[place]):
            ledger.append(*event, {})


# --- append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = '{}'",
        "DELETE FROM events",
        "DELETE FROM events WHERE id = 1",
        "INSERT OR REPLACE INTO events VALUES (1, 'r', 0, 's', 'k', '{}')",
    ],
)
def test_sqlite_itself_refuses_changes(ledger, path, statement):
    ledger.append("r", "s", "k", {"x": 1})
    raw = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute(statement)
    raw.close()
    assert [event.payload for event in ledger.read()] == [{"x": 1}]


# --- many writers


def test_several_processes_write_at_once_and_none_is_lost(path):
    names = ["w0", "w1", "w2", "w3"]
    writers = [start_writer(path, name, 100, every) for name, every in zip(names, (1, 1, 4, 10), strict=True)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # all have the file open; now they write together
        writer.stdin.write("go\n")
        writer.stdin.flush()
    acknowledged = {}
    for name, writer in zip(names, writers, strict=True):
        acknowledged[name] = [int(number) for number in writer.communicate(timeout=60)[0].split()]
        assert writer.returncode == 0
    with Ledger(path) as ledger:
        events = ledger.read()
        assert [event.id for event in events] == list(range(1, 401))
        for name in names:
            own = ledger.read(system=name)
            assert [event.payload["i"] for event in own] == list(range(100))
            assert [event.id for event in own] == acknowledged[name]


def test_several_processes_make_the_file_at_once(path):
    writers = [start_writer(path, f"w{i}", 3) for i in range(5)]
    for writer in writers:
        writer.communicate("go\n", timeout=60)
        assert writer.returncode == 0
    with Ledger(path) as ledger:
        assert len(ledger.read()) == 15


def test_threads_share_one_ledger(ledger):
    def write(name):
        for i in range(50):
            ledger.append("r", name, "k", {"i": i})

    threads = [threading.Thread(target=write, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.id for event in ledger.read()] == list(range(1, 201))
    assert [event.payload["i"] for event in ledger.read(system="t2")] == list(range(50))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_ledger_works_on_both_sides_of_a_fork(ledger, path):
    ledger.append("r", "parent", "k", {"i": -1})
    child = os.fork()
    if child == 0:
        try:
            assert ledger._connection is None  # SQLite: never carry an open connection into a child
            for i in range(50):
                ledger.append("r", "child", "k", {"i": i})
            ledger.close()
        except BaseException:
            os._exit(1)
        os._exit(0)
    for i in range(50):
        ledger.append("r", "parent", "k", {"i": i})
    assert os.waitpid(child, 0)[1] == 0
    assert [event.payload["i"] for event in ledger.read(system="child")] == list(range(50))
    assert [event.payload["i"] for event in ledger.read(system="parent")] == list(range(-1, 50))


def test_a_file_that_others_keep_locked_is_named_and_nothing_written(ledger, path):
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with Ledger(path, timeout=0.01) as impatient:
        with pytest.raises(InvalidStateError, match=r"runs\.db locked"):
            impatient.append("r", "s", "k", {})
        assert impatient.read() == []
        raw.execute("ROLLBACK")
        assert impatient.append("r", "s", "k", {}) == 1
    raw.close()


# --- death of a writer


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("every", [1, 7])
def test_kill_9_loses_no_acknowledged_event_and_leaves_no_part_of_a_transaction(path, every):
    with start_writer(path, "w", 7_000_000, every) as writer:
        writer.stdin.write("go\n")
        writer.stdin.flush()
        lines = [writer.stdout.readline() for _ in range(40)]
        writer.kill()
        lines += writer.stdout.readlines()
    acknowledged = [int(number) for line in lines[1:] if line.endswith("\n") for number in line.split()]
    with Ledger(path) as ledger:
        events = ledger.read()
        assert len(acknowledged) >= 39 * every
        assert set(acknowledged) <= {event.id for event in events}
        assert [event.payload["i"] for event in events] == list(range(len(events)))
        assert len(events) % every == 0
        assert ledger.append("run", "w", "count", {}) == len(events) + 1


# --- files that are no ledger


@pytest.mark.parametrize("size", [0, 1])
def test_a_file_left_by_a_process_that_died_at_once_is_a_new_ledger(path, size):
    if size == 0:
        path.touch()
    else:
        raw = sqlite3.connect(path)
        raw.execute("PRAGMA journal_mode = WAL")
        raw.close()
        assert path.stat().st_size > 0
    with Ledger(path) as ledger:
        assert ledger.append("r", "s", "k", {}) == 1


@pytest.mark.parametrize(
    "content", [b"x", b"hello", b"#" * 200, b"run,time\n" * 1000, b"SQLite format 3\0" + b"\1" * 5000, b"\0" * 8192]
)
def test_what_is_no_sqlite_file_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"runs\.db is damaged or no SQLite file.*move it away"):
        Ledger(path)
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["runs.db"]


def test_another_programs_database_is_refused_and_left_alone(path):
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE events (id)")
    raw.execute("PRAGMA application_id = 0x1234")
    raw.close()
    content = path.read_bytes()
    with pytest.raises(CorruptFileError, match=r"another program \(application_id 0x1234, 1 objects\)"):
        Ledger(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA user_version = 2", "newer Tithe .schema 2; this one reads up to 1.; upgrade"),
        ("PRAGMA user_version = 0", "schema 0"),
        ("ALTER TABLE events DROP COLUMN payload", r"event columns \['id', 'run', 'time', 'system', 'kind'\]"),
        ("DROP TABLE events", r"event columns \[\]"),
    ],
)
def test_other_schemas_are_refused(path, statement, words):
    fill(path, 1)
    raw = sqlite3.connect(path)
    if statement.startswith("ALTER"):
        for trigger in ("no_update", "no_delete", "no_replace"):
            raw.execute(f"DROP TRIGGER {trigger}")
    raw.execute(statement)
    raw.close()
    with pytest.raises(CorruptFileError, match=words):
        Ledger(path)


@pytest.mark.parametrize("keep", [0.9, 0.5, 0.1, 50])
def test_a_truncated_file_is_refused(path, keep):
    fill(path)
    size = path.stat().st_size
    os.truncate(path, keep if keep > 1 else int(size * keep))
    with pytest.raises(CorruptFileError, match=r"runs\.db is damaged"):
        Ledger(path)


def test_damage_in_the_middle_is_found_when_it_is_read(path):
    fill(path)
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096)
    with Ledger(path) as ledger, pytest.raises(CorruptFileError, match=r"runs\.db"):
        ledger.read()


def test_a_payload_that_is_no_json_is_damage(path):
    fill(path, 1)
    raw = sqlite3.connect(path)
    for payload in ("{", "[1]"):
        raw.execute("INSERT INTO events (run, time, system, kind, payload) VALUES ('bad', 0, 's', 'k', ?)", (payload,))
    raw.commit()
    raw.close()
    with Ledger(path) as ledger:
        for after in (1, 2):
            with pytest.raises(CorruptFileError, match="payload that is not JSON"):
                ledger.read(after=after)
        assert len(ledger.read(run="run")) == 1


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="is a folder"):
        Ledger(tmp_path)


def test_what_the_file_system_refuses_is_an_oserror(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        Ledger(tmp_path / "file" / "runs.db")


# --- following


def test_tail_follows_a_writer_without_gaps_or_repeats(ledger, path):
    ledger.append("r", "s", "k", {"i": 0})
    done = threading.Event()

    def write():
        with Ledger(path) as other:
            for i in range(1, 60):
                other.append("r", "s", "k", {"i": i})
        done.set()

    writer = threading.Thread(target=write)
    followed = ledger.tail(poll=0.001, stop=done.is_set)
    assert next(followed).payload == {"i": 0}
    writer.start()
    rest = [event.payload["i"] for event in followed]
    writer.join()
    assert rest == list(range(1, 60))


def test_tail_starts_after_and_filters(ledger):
    for i in range(6):
        ledger.append("ab"[i % 2], "s", "k", {"i": i})
    events = list(ledger.tail(run="b", after=2, stop=lambda: True))
    assert [event.payload["i"] for event in events] == [3, 5]


def test_tail_ends_when_nothing_happens_for_the_timeout(ledger):
    ledger.append("r", "s", "k", {})
    assert len(list(ledger.tail(poll=0.001, timeout=0.01))) == 1
    assert list(ledger.tail(after=1, poll=0.001, timeout=0)) == []


def test_tail_delivers_what_was_written_before_the_stop(ledger):
    def stop():
        if not ledger.read(limit=1):
            ledger.append("r", "s", "k", {"last": True})
        return True

    assert [event.payload for event in ledger.tail(stop=stop)] == [{"last": True}]


def test_tail_reads_long_backlogs_in_batches(ledger, monkeypatch):
    monkeypatch.setattr("tithe.ledger.ledger._TAIL_BATCH", 7)
    ledger.extend([("r", "s", "k", {"i": i}) for i in range(30)])
    assert [event.payload["i"] for event in ledger.tail(stop=lambda: True)] == list(range(30))
