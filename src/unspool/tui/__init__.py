"""Full-screen terminal views, the debugger and `top`. They need the extra `tui` (textual) and hold no data."""
