"""What runs between node channel and screen."""
