"""What each session says of each cell, kept ready, and the label that releases are compared with."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "digests",
        sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.id"), primary_key=True),
        sa.Column("made_of", sa.Text, nullable=False),
        sa.Column("blob", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "baselines",
        sa.Column("experiment", sa.Text, primary_key=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("set_utc", sa.Text, nullable=False),
    )
