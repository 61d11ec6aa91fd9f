"""Whether the studio works: its health, its figures, its lane, its signs of life."""
