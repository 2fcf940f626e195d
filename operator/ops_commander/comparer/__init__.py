"""The shadow comparer: a process of its own that asks stable and candidate what users have asked, and compares."""
