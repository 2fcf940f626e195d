"""What two versions of a model answered to the same request: how far apart, and which silent regressions."""
