"""What both rings disturb an ``up`` with, watch it by, and hold its end to."""
