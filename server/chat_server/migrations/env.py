"""Runs the migrations on the connection that `migrate.py` opened and locked."""

from alembic import context

from chat_server.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
