"""Training: one loop, an engine that knows about devices and processes, and checkpoints that survive `kill -9`."""
