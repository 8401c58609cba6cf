"""Operations on files. Each is a job, its task, and leaves that touch the disk: no thread, no row, standard library only."""
