"""Checks that a Perfetto trace shows a whole chain: `perfetto_chain.py FILE CHAIN`.

read: one read() from the program to the host's disk and back. send DEVICE: from the program's send to
the frame that leaves the device. receive DEVICE: from a frame that comes in to the program's return.

Perfetto's own trace processor does it where it is to be had: the PyPI package downloads the program
from Google's storage at the first use, or TRACE_PROCESSOR names one. Without it, the package's own
protobuf schema parses the file (strictly: unknown fields are errors), and the same SQL query runs over tables
of the same names that are filled here as the trace processor documents them. Which of the two it
was is the last line.
"""

import os
import shutil
import sqlite3
import sys

READ = [
    "vfs.Read", "serve vfs.Read", "fs.Read", "serve fs.Read", "block read", "driver read",
    "issue tag", "virtio-blk.0 queue", "host read", "host done", "device done", "driver answers",
    "block done", "fs.Read returns", "vfs.Read returns",
]

# By chain: the name of its first slice, and the beginnings of all that must follow in this order.
CHAINS = {
    "read": lambda device: READ,
    "send": lambda device: [
        "socket.Send", "serve socket.Send", "frame submit", "driver frame", "issue tag",
        f"{device} ", f"{device} frame out",
    ],
    "receive": lambda device: [
        f"{device} frame in", f"{device} raises", "interrupt ", "driver hands up", "frame arrives",
        "socket.Receive returns",
    ],
}

# Every slice of a name that starts a chain, and all slices that flow from it, in order.
QUERY = """
WITH RECURSIVE chain(root, id) AS (
  SELECT slice.id, slice.id FROM slice
    WHERE slice.name = '{root}' AND slice.id NOT IN (SELECT slice_in FROM flow)
  UNION
  SELECT chain.root, flow.slice_in FROM chain JOIN flow ON flow.slice_out = chain.id
)
SELECT chain.root AS root, slice.ts AS ts, slice.id AS id, slice.name AS name
FROM chain JOIN slice ON slice.id = chain.id ORDER BY chain.root, slice.ts, slice.id
"""


def processor(path, query):
    """The query by Perfetto's trace processor; None where there is none."""
    try:
        from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig
        binary = os.environ.get("TRACE_PROCESSOR") or shutil.which("trace_processor_shell")
        config = TraceProcessorConfig(bin_path=binary) if binary else TraceProcessorConfig()
        with TraceProcessor(trace=path, config=config) as tp:
            return [(row.root, row.ts, row.id, row.name) for row in tp.query(query)]
    except Exception as error:  # no network, no program: said at the end
        print(f"trace processor not to be had: {type(error).__name__}")
        return None


def unknown_fields(message, where):
    from google.protobuf import unknown_fields as unknown
    found = list(unknown.UnknownFieldSet(message))
    assert not found, f"{where}: unknown field {found[0].field_number}"


def tables(path, query):
    """Slices and flows in SQLite, from the package's schema."""
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto
    trace = proto.Trace()
    with open(path, "rb") as file:
        trace.ParseFromString(file.read())
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE slice(id INTEGER PRIMARY KEY, ts INTEGER, name TEXT, track INTEGER)")
    db.execute("CREATE TABLE flow(slice_out INTEGER, slice_in INTEGER)")
    tracks, stacks, last = {}, {}, {}
    assert trace.packet[0].sequence_flags & 1, "the first packet clears the state"
    for packet in trace.packet:
        unknown_fields(packet, "packet")
        if packet.HasField("track_descriptor"):
            unknown_fields(packet.track_descriptor, "track descriptor")
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        unknown_fields(event, "track event")
        assert event.track_uuid in tracks, "an event on a track that is not described"
        stack = stacks.setdefault(event.track_uuid, [])
        if event.type == event.TYPE_SLICE_END:
            assert stack, f"an end without a begin on {tracks[event.track_uuid].name}"
            stack.pop()
            continue
        assert event.type in (event.TYPE_SLICE_BEGIN, event.TYPE_INSTANT)
        row = db.execute("INSERT INTO slice(ts, name, track) VALUES (?, ?, ?)",
                         (packet.timestamp, event.name, event.track_uuid))
        if event.type == event.TYPE_SLICE_BEGIN:
            stack.append(row.lastrowid)
        for flow in list(event.flow_ids) + list(event.terminating_flow_ids):
            if flow in last:
                db.execute("INSERT INTO flow VALUES (?, ?)", (last[flow], row.lastrowid))
            last[flow] = row.lastrowid
        for flow in event.terminating_flow_ids:
            last.pop(flow, None)
    for track in tracks.values():
        assert not track.parent_uuid or track.parent_uuid in tracks, "a parent that is not there"
    return db.execute(query).fetchall()


def complete(names, expected):
    """Whether the expected steps are among the names, in this order."""
    at = 0
    for name in names:
        if at < len(expected) and name.startswith(expected[at]):
            at += 1
    return at == len(expected)


def main(path, chain, device=""):
    expected = CHAINS[chain](device)
    query = QUERY.replace("{root}", expected[0])
    own = tables(path, query)
    rows = processor(path, query)
    by = "Perfetto's trace processor" if rows is not None else "the package's schema and SQLite"
    chains = {}
    for root, _, _, name in rows if rows is not None else own:
        chains.setdefault(root, []).append(name)
    good = [names for names in chains.values() if complete(names, expected)]
    if not good:
        longest = max(chains.values(), key=len, default=[])
        sys.exit(f"no chain is complete; the longest of {len(chains)}: {longest}")
    print(" -> ".join(good[0]))
    print(f"{chain} chain complete in {len(good)} of {len(chains)}, says {by}")


main(*sys.argv[1:])
