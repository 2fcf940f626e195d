"""A local Kubernetes cluster for development and end-to-end tests: `python3 -m hack.cluster up`."""
