"""Alembic's entry: runs the migrations on the connection that `engine._migrate` opened."""

from alembic import context
from sqlalchemy import func, select

connection = context.config.attributes["connection"]
# the version is kept where the tables are made; search_path may show another store's in a schema behind it
on_server = connection.dialect.name == "postgresql"
schema = connection.execute(select(func.current_schema())).scalar() if on_server else None
context.configure(connection=connection, transactional_ddl=True, version_table_schema=schema)
with context.begin_transaction():
    context.run_migrations()
