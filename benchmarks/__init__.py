"""How fast and how frugal the operator is with many rollouts: `make bench`, docs/performance.md."""
