"""Attacks on a running edge, and the honest clients who are to notice nothing of them."""
