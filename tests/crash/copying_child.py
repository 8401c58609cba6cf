"""A process that copies a tree with callboard until it is done, or killed: `copying_child.py LIBRARY SOURCE TARGET`.

Prints a line at each step, so that whoever kills it knows how far it had come.
"""

import sys
from pathlib import Path

from callboard.actors.runtime import Runtime
from callboard.jobs.files.copy import CopyFiles
from callboard.jobs.submission import Submission

library_path, source, target = map(Path, sys.argv[1:4])
print("starting", flush=True)
with Runtime(workers=16) as runtime:
    library = runtime.open_library(library_path)
    print("open", flush=True)
    known = [*library.jobs(limit=1).records, *library.history(limit=1).records]  # in this order: it may end between the two looks
    if known:
        handle = library.job(known[0].id)
    else:
        handle = library.submit(Submission(CopyFiles((source,), target), key="the copy"))
    print("job", handle.id_text, flush=True)
    handle.wait(120)
print("done", flush=True)
