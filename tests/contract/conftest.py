"""What the contract suites of several files share."""

from tests.directories import directory, world
from tests.servers import database, postgres_server

__all__ = ["database", "directory", "postgres_server", "world"]
