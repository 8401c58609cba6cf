-- Schema version 1. What each table is for, and which statement each index serves, stands beside it.
-- Every id is a UUIDv7 (16 bytes, rising in order of arrival). Times are milliseconds since the epoch. Blobs are msgpack.

CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;

-- Jobs that have not ended. `data` keeps the fields as submitted; what changed since is in job_checkpoints.
CREATE TABLE jobs (
  id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  name         TEXT    NOT NULL,
  version      INTEGER NOT NULL CHECK (version >= 1),
  status       TEXT    NOT NULL CHECK (status IN ('queued', 'running', 'pausing', 'paused', 'cancelling', 'quarantined')),
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
  error        TEXT,                        -- of the last attempt, or why it is paused or quarantined
  progress     BLOB,
  data         BLOB    NOT NULL,
  checksum     BLOB    NOT NULL             -- of name, version and data
) STRICT, WITHOUT ROWID;

-- Which job is next: a scan of a few index rows a type that this process knows, whatever stands at the head of the others.
CREATE INDEX jobs_ready ON jobs (alone, name, version, priority, id) WHERE status = 'queued' AND run_at IS NULL;
-- Which jobs become due.
CREATE INDEX jobs_due ON jobs (run_at) WHERE run_at IS NOT NULL;
-- At most one live job per (name, key).
CREATE UNIQUE INDEX jobs_key ON jobs (name, key) WHERE key IS NOT NULL;
-- Recovery, and lists of what is not simply waiting.
CREATE INDEX jobs_status ON jobs (status) WHERE status <> 'queued';

-- Ended jobs. A row never changes.
CREATE TABLE job_history (
  id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  name         TEXT    NOT NULL,
  version      INTEGER NOT NULL,
  status       TEXT    NOT NULL CHECK (status IN ('completed', 'completed_with_errors', 'failed', 'cancelled')),
  priority     INTEGER NOT NULL,
  key          BLOB,
  grp          TEXT,
  parent       BLOB,
  retry_of     BLOB,
  resumable    INTEGER NOT NULL,
  retry        TEXT,
  tags         TEXT,
  requested_by TEXT,
  created_at   INTEGER NOT NULL,
  started_at   INTEGER,
  ended_at     INTEGER NOT NULL,
  claim        INTEGER NOT NULL,
  attempt      INTEGER NOT NULL,
  crashes      INTEGER NOT NULL,
  running_ms   INTEGER NOT NULL,
  waiting_ms   INTEGER NOT NULL,
  warnings     INTEGER NOT NULL,
  error        TEXT,
  traceback    TEXT,
  metrics      TEXT,                        -- JSON
  progress     BLOB,
  result       BLOB,
  data         BLOB    NOT NULL,
  checksum     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

-- What failed, was cancelled, has warnings: lists and counts. A job that completes costs it nothing.
CREATE INDEX job_history_status ON job_history (status) WHERE status <> 'completed';

-- The parts of a job's checkpoint. kind: 'head' (one row: sequence, progress), 'field' (name: the field), 'done', 'failed', 'only'
-- (ledger pages; name: the map's), 'items' (a source's recorded items), 'source' (how many, and whether it ended), 'note' (page: position).
-- Clustered by job, so that what one commit changes lies on one page. Kept after the end unless the job completed without errors.
CREATE TABLE job_checkpoints (
  job_id   BLOB    NOT NULL,
  kind     TEXT    NOT NULL,
  name     TEXT    NOT NULL,
  page     INTEGER NOT NULL,
  sequence INTEGER NOT NULL,                -- of the checkpoint that wrote this part
  value    BLOB    NOT NULL,
  checksum BLOB    NOT NULL,                -- of all of the above
  PRIMARY KEY (job_id, kind, name, page)
) STRICT, WITHOUT ROWID;

-- Non-critical errors, in order; the first 10,000 of a job are kept, all are counted.
CREATE TABLE job_warnings (
  job_id  BLOB    NOT NULL,
  n       INTEGER NOT NULL,
  item    TEXT,
  message TEXT    NOT NULL,
  PRIMARY KEY (job_id, n)
) STRICT, WITHOUT ROWID;

-- Filter by label, live and ended alike; ids are never reused.
CREATE TABLE job_tags (
  tag    TEXT NOT NULL,
  job_id BLOB NOT NULL,
  PRIMARY KEY (tag, job_id)
) STRICT, WITHOUT ROWID;
