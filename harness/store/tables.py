"""The tables, in portable SQL: UUID text keys, UTC text stamps, the JSON type, no SQLite-only statement."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    true,
)

from harness.store.values import Words

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", Words, primary_key=True),
    Column("experiment", Words, nullable=False, index=True),
    Column("kind", Words, nullable=False),
    Column("label", Words),
    Column("created_utc", Words, nullable=False),
    Column("finished_utc", Words),
    Column("quick", Boolean, nullable=False),
    Column("plan_key", Words, nullable=False),  # what must be equal for `run` to continue the session
    Column("plan", JSON, nullable=False),
    Column("package", Words, nullable=False),  # the manifest, as JSON text
)

session_devices = Table(
    "session_devices",
    metadata,
    Column("session_id", Words, ForeignKey("sessions.id"), primary_key=True),
    Column("name", Words, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("facts", JSON),
    Column("runners", JSON, nullable=False),
    Column("unreached", Words),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Words, primary_key=True),
    Column("session_id", Words, ForeignKey("sessions.id"), nullable=False),
    Column("cell_key", Words, nullable=False),  # canonical JSON of the cell: NULL threads must collide, so no columns
    Column("variant", Words, nullable=False),
    Column("device_id", Words, nullable=False),
    Column("cell", JSON, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("counts", Boolean, nullable=False),
    Column("status", Words, nullable=False),
    Column("reason", Words),
    Column("caveats", JSON, nullable=False),
    Column("block", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("started_utc", Words, nullable=False),
    Column("boot_id", Words),
    Column("start_boottime_ns", BigInteger),
    Column("end_boottime_ns", BigInteger),
    Column("artifact_sha256", Words, nullable=False),
    Column("measurements", JSON, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("conditions", JSON, nullable=False),
    Column("provenance", JSON, nullable=False),
    UniqueConstraint("session_id", "cell_key", "purpose", "repeat", "attempt", name="one_attempt"),
)
Index(
    "one_counts",
    runs.c.session_id,
    runs.c.cell_key,
    runs.c.purpose,
    runs.c.repeat,
    unique=True,
    sqlite_where=runs.c.counts == true(),
    postgresql_where=runs.c.counts,
)

#: what each session says of each of its cells (analyze/digest.py): made from the runs, and made anew at any time
digests = Table(
    "digests",
    metadata,
    Column("session_id", Words, ForeignKey("sessions.id"), primary_key=True),
    Column("made_of", Words, nullable=False),  # a digest of other runs, or of another version, is none
    Column("blob", LargeBinary, nullable=False),
)

#: the label that an experiment's releases are compared with
baselines = Table(
    "baselines",
    metadata,
    Column("experiment", Words, primary_key=True),
    Column("label", Words, nullable=False),
    Column("set_utc", Words, nullable=False),
)

#: which sessions were not measured by whoever keeps this store, but came out of a file; the file's first name and hash
imports = Table(
    "imports",
    metadata,
    Column("session_id", Words, ForeignKey("sessions.id"), primary_key=True),
    Column("file", Words, nullable=False),
    Column("sha256", Words, nullable=False),
    Column("imported_utc", Words, nullable=False),
)

#: raw samples apart from the rows, so that reading summaries never touches them
samples = Table(
    "samples",
    metadata,
    Column("run_id", Words, ForeignKey("runs.id"), primary_key=True),
    Column("blob", LargeBinary, nullable=False),
)
