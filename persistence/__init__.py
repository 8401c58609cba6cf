"""What is kept: one SQLite file per library. The only room with apsw and msgpack; no threads."""
