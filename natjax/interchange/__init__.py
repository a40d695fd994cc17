"""Trained weights in the files of other libraries."""
