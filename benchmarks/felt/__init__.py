"""What a user feels of a candidate that fails: on the kind cluster, through Envoy. `make bench-felt`."""
