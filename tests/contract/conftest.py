"""What the contract suites of several files share."""

from tests.directories import directory, world
from tests.servers import database, postgres_server
from tests.tracks import couple, tracks
from tests.works import bench, work

__all__ = ["bench", "couple", "database", "directory", "postgres_server", "tracks", "work", "world"]
