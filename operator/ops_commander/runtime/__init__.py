"""The running operator: handlers, queue, reconciler, leader election, poller, HTTP endpoints."""
