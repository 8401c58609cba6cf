"""What work is: jobs, tasks, their lifecycle and their errors. Standard library only."""
