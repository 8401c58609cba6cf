-- Schema version 2, from version 1: successors (`waiting`), what became of a superseded job, batches.
-- `jobs` is made anew, since a CHECK cannot be changed; a row is as it was.

CREATE TABLE jobs_2 (
  id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  name         TEXT    NOT NULL,
  version      INTEGER NOT NULL CHECK (version >= 1),
  status       TEXT    NOT NULL CHECK (status IN
    ('queued', 'waiting', 'awaiting_children', 'running', 'pausing', 'paused', 'cancelling', 'ending', 'quarantined')),
  intent       TEXT    NOT NULL CHECK (intent IN ('run', 'pause', 'cancel')),
  pausers      INTEGER NOT NULL CHECK (pausers BETWEEN 0 AND 15), -- who keeps it paused, as bits
  priority     INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 255),
  key          BLOB    CHECK (key IS NULL OR length(key) BETWEEN 1 AND 512),
  grp          TEXT,
  parent       BLOB,
  retry_of     BLOB,
  run_at       INTEGER,                     -- not before; NULL once it is due
  resumable    INTEGER NOT NULL CHECK (resumable IN (0, 1)),
  retry        TEXT,                        -- the retry policy as JSON; NULL: the class's
  tags         TEXT,                        -- JSON array; job_tags is its index
  requested_by TEXT,
  created_at   INTEGER NOT NULL,
  queued_at    INTEGER NOT NULL,            -- since when it waits this time
  started_at   INTEGER,                     -- first claim
  claim        INTEGER NOT NULL,            -- how often it was claimed: the fence of every write of its actor
  attempt      INTEGER NOT NULL,            -- 1, one more after each failure that is retried
  crashes      INTEGER NOT NULL,            -- deaths of the process since the last checkpoint
  alone        INTEGER NOT NULL CHECK (alone IN (0, 1)), -- a suspect: claimed with no other user code running
  excused      INTEGER NOT NULL CHECK (excused IN (0, 1)), -- its process said that it was ending: found claimed, it is not charged
  running_ms   INTEGER NOT NULL,            -- in `run`, over all finished runs
  waiting_ms   INTEGER NOT NULL,            -- queued, over all finished waits
  warnings     INTEGER NOT NULL,
  unresponsive INTEGER,                     -- since when it has not looked; NULL while it does
  after_id     BLOB,                        -- of a waiting one: the job in front of it
  after_batch  BLOB,                        -- of a parent that is run again when this batch is over
  superseded_by BLOB,                       -- the newer job of its key for whose sake it is being cancelled
  limited      BLOB,                        -- the batch it is of, if only so many of that run at once
  kept_back    INTEGER NOT NULL DEFAULT 0 CHECK (kept_back IN (0, 1)), -- not in line: as many of its batch run as may
  error        TEXT,                        -- of the last attempt, or why it is paused or quarantined
  progress     BLOB,
  data         BLOB    NOT NULL,
  checksum     BLOB    NOT NULL,            -- of name, version and data; then the end of the id
  CHECK (ifnull(length(after_id), 0) = iif(status = 'waiting', 16, 0))
) STRICT, WITHOUT ROWID;

INSERT INTO jobs_2 (id, name, version, status, intent, pausers, priority, key, grp, parent,
  retry_of, run_at, resumable, retry, tags, requested_by, created_at, queued_at, started_at, claim,
  attempt, crashes, alone, excused, running_ms, waiting_ms, warnings, unresponsive, error, progress, data, checksum)
SELECT id, name, version, status, intent, pausers, priority, key, grp, parent,
  retry_of, run_at, resumable, retry, tags, requested_by, created_at, queued_at, started_at, claim,
  attempt, crashes, alone, excused, running_ms, waiting_ms, warnings, unresponsive, error, progress, data, checksum
FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_2 RENAME TO jobs;

-- Which job is next: a scan of a few index rows a type that this process knows, whatever stands at the head of the others.
CREATE INDEX jobs_ready ON jobs (alone, name, version, priority, id) WHERE status = 'queued' AND run_at IS NULL AND kept_back = 0;
-- Which jobs become due.
CREATE INDEX jobs_due ON jobs (run_at) WHERE run_at IS NOT NULL;
-- At most one live job per (name, key) … (by after_id and not by status, which changes with every claim)
CREATE UNIQUE INDEX jobs_key ON jobs (name, key) WHERE key IS NOT NULL AND after_id IS NULL;
-- … and at most one successor that waits for it.
CREATE UNIQUE INDEX jobs_successor ON jobs (name, key) WHERE after_id IS NOT NULL;
-- Whose turn it is when a job has ended.
CREATE INDEX jobs_after ON jobs (after_id) WHERE after_id IS NOT NULL;
-- The children of a job that live …
CREATE INDEX jobs_parent ON jobs (parent, id) WHERE parent IS NOT NULL;
-- … and who waits for a batch of them.
CREATE INDEX jobs_after_batch ON jobs (after_batch) WHERE after_batch IS NOT NULL;
-- How many of a batch run, of which only so many may at once, and who of it is next.
CREATE INDEX jobs_limited ON jobs (limited, kept_back, status, run_at, priority, id) WHERE limited IS NOT NULL;
-- Recovery, and lists of what is not simply waiting in line.
CREATE INDEX jobs_status ON jobs (status) WHERE status <> 'queued';

ALTER TABLE job_history ADD COLUMN superseded_by BLOB;
-- The children of a job that have ended.
CREATE INDEX job_history_parent ON job_history (parent, id) WHERE parent IS NOT NULL;

-- How a parent that is `ending` has ended, when all that is missing is the end of its children.
CREATE TABLE held_ends (
  job_id    BLOB NOT NULL PRIMARY KEY,
  status    TEXT NOT NULL CHECK (status IN ('completed', 'completed_with_errors', 'failed', 'cancelled')),
  error     TEXT,
  traceback TEXT,
  metrics   TEXT,
  result    BLOB,
  key       BLOB                            -- of one that waited for its key, which others have since
) STRICT, WITHOUT ROWID;

-- What is wanted of a parent and is still to be carried out on its children.
CREATE TABLE cascades (
  parent BLOB NOT NULL PRIMARY KEY,
  event  TEXT NOT NULL CHECK (event IN ('pause', 'resume', 'cancel')),
  after  BLOB                               -- the child that was told last; NULL: none
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX cascades_event ON cascades (event, parent);

-- What was submitted as one. Kept as long as the history is.
CREATE TABLE batches (
  id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  created_at   INTEGER NOT NULL,
  requested_by TEXT,
  parent       BLOB,                        -- the job whose children they are, as far as its progress is theirs
  sealed       INTEGER NOT NULL CHECK (sealed IN (0, 1)), -- its last chunk is stored
  count        INTEGER NOT NULL,            -- items so far, whatever became of them
  members      INTEGER NOT NULL,            -- jobs that were made of them
  open         INTEGER NOT NULL CHECK (open >= 0), -- those that have not ended
  max_running  INTEGER,                     -- of its jobs so many run at once; NULL: any number
  on_complete  BLOB,                        -- a new job, msgpack; queued in the commit that ends the last one
  completed_at INTEGER,                     -- sealed, and none open
  completed_by BLOB,                        -- the job that on_complete made
  counts       TEXT    NOT NULL             -- JSON: how many items came out how
) STRICT, WITHOUT ROWID;
CREATE INDEX batches_created ON batches (created_at, id);
-- Those whose jobs are counted as they end.
CREATE INDEX batches_open ON batches (id) WHERE completed_at IS NULL;
-- How far a parent is.
CREATE INDEX batches_parent ON batches (parent) WHERE parent IS NOT NULL;
CREATE INDEX batches_limited ON batches (id) WHERE max_running IS NOT NULL AND completed_at IS NULL;

-- What was stored of a batch in one commit. A job belongs to it whose id is from first_id to last_id.
CREATE TABLE batch_chunks (
  batch_id BLOB    NOT NULL,
  start    INTEGER NOT NULL,                -- index of its first item
  count    INTEGER NOT NULL,                -- items
  first_id BLOB,                            -- item i would have the i-th id from here on; NULL: it has no rows
  last_id  BLOB,
  rows     INTEGER NOT NULL,                -- jobs that were made
  digest   BLOB    NOT NULL,                -- of what was sent
  others   BLOB,                            -- what became of items that did not become plain new jobs, msgpack; NULL: all did
  PRIMARY KEY (batch_id, start)
) STRICT, WITHOUT ROWID;
-- Which batch a job is of; and ids that are set aside are not given again.
CREATE INDEX batch_chunks_ids ON batch_chunks (last_id, first_id) WHERE last_id IS NOT NULL;
