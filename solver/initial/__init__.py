"""Initial states that serve several equations, and the registry of all of them."""
