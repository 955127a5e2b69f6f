"""Figures: one style, one function per figure."""
