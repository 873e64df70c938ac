"""What runs between producer and node channel, and what every service shares."""

__version__ = "0.1.0"
