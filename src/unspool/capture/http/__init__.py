"""Seams in HTTP client libraries, one small adapter each. They only watch: nothing they return or raise changes."""
