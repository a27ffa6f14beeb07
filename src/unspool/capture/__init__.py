"""How events come out of a running agent. Loaded in the agent's own process: msgspec and the standard library only."""
