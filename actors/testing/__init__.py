"""The simulated ports, and what users test with. Needs the extra `testing`."""
