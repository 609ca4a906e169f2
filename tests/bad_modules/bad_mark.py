# coding: latin-1
"""Begins with UTF-8's mark and declares Latin-1: two editors in turn."""
