"""Linen modules and the supernet."""
