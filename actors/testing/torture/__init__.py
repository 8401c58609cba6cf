"""`callboard torture`: tries to break the guarantees on this machine and this disk, with real processes. Needs no extra but the command line's."""
