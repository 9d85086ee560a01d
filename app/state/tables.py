"""The broker's tables. Truth is here; migrations bring a database to this shape."""

import sqlalchemy as sa

metadata = sa.MetaData()

links = sa.Table(
    "links",
    metadata,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("issuer", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text),
    sa.Column("email", sa.Text),
    sa.UniqueConstraint("project_id", "user_id", name="links_one_principal_per_user"),
)

processes = sa.Table(
    "processes",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
)
