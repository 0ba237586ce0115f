"""What the contract suites of several files share."""

from tests.directories import directory, world
from tests.servers import database, postgres_server
from tests.works import bench, work

__all__ = ["bench", "database", "directory", "postgres_server", "work", "world"]
