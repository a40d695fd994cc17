"""Policies over transitions: the graph network and its distribution."""
