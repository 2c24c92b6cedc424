"""The demonstration behind `./run demo`: Self-Flow and flow matching trained side by side in minutes, on one page."""
