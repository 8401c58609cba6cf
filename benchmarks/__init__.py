"""What callboard costs beside the raw limit and beside its peers: scenarios, one harness that runs them, and what comes out.

Above all rooms: it may import any of them, and none of them imports it. It measures the time of the wall with real threads and processes.
"""
