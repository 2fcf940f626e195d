"""Action plans: their order, what is decided about them, and what is reported. Pure."""
