"""The pure decision core: state and observations in, decisions out. No I/O, no clock, no kopf."""
