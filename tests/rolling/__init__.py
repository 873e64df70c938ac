"""A rolling restart of all edges behind a balancer, with a crowd of clients that are written to all the while."""
