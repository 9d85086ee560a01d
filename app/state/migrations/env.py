"""Alembic's entry: runs on the connection that `app.state.migrate` hands over, inside its transaction."""

from alembic import context

from app.state.migrate import VERSIONS
from app.state.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSIONS,
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
