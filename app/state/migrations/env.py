"""Alembic's entry: runs on the connection that `app.state.migrate` hands over, inside its transaction."""

from alembic import context

from app.state.migrate import VERSIONS

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSIONS,
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
