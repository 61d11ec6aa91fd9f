"""The database as a whole: backups, moves, and whether the studio stands still."""
