"""The first schema. Written out, not taken from tables.py: an old step must never change."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False, index=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("created_utc", sa.Text, nullable=False),
        sa.Column("finished_utc", sa.Text),
        sa.Column("quick", sa.Boolean, nullable=False),
        sa.Column("plan_key", sa.Text, nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("package", sa.Text, nullable=False),
    )
    op.create_table(
        "session_devices",
        sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("facts", sa.JSON),
        sa.Column("runners", sa.JSON, nullable=False),
        sa.Column("unreached", sa.Text),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.id"), nullable=False),
        sa.Column("cell_key", sa.Text, nullable=False),
        sa.Column("variant", sa.Text, nullable=False),
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("cell", sa.JSON, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("counts", sa.Boolean, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("caveats", sa.JSON, nullable=False),
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("started_utc", sa.Text, nullable=False),
        sa.Column("boot_id", sa.Text),
        sa.Column("start_boottime_ns", sa.BigInteger),
        sa.Column("end_boottime_ns", sa.BigInteger),
        sa.Column("artifact_sha256", sa.Text, nullable=False),
        sa.Column("measurements", sa.JSON, nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("conditions", sa.JSON, nullable=False),
        sa.Column("provenance", sa.JSON, nullable=False),
        sa.UniqueConstraint("session_id", "cell_key", "purpose", "repeat", "attempt", name="one_attempt"),
    )
    op.create_index(
        "one_counts",
        "runs",
        ["session_id", "cell_key", "purpose", "repeat"],
        unique=True,
        sqlite_where=sa.text("counts = 1"),
        postgresql_where=sa.text("counts"),
    )
    op.create_table(
        "samples",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("blob", sa.LargeBinary, nullable=False),
    )
