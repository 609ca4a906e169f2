"""Defines no implementation: a helper that was pushed alone."""

LIMIT = 10
