module ops-commander.dev/hack/tools/pause

go 1.25.0
