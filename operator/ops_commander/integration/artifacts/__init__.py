"""What an artifact holds, found out without loading it: a tripwire before the boundary, and not the boundary itself."""
