"""What the training of a network minimises, and how features are judged."""
