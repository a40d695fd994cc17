"""Networks as graphs, and every form in which they are written."""
