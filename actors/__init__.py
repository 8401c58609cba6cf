"""Who is running: the actors around the jobs and the store. The only room with pykka."""
