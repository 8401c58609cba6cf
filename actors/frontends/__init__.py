"""How people reach a library from outside: the command line."""
