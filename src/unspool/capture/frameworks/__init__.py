"""Tool calls of frameworks, one adapter each: the seam, how a call is named, and how its result is made anew."""
