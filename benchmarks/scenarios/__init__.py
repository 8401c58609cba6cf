"""The scenarios: a file each, whose docstring says what work, what counts, what durability, which raw limit."""
