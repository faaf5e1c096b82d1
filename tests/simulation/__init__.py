"""The proxy's own objects in one process, on a virtual clock, between simulated clients and servers."""
