"""`python -m ops_commander` is the console script `ops-commander`."""

from ops_commander.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
