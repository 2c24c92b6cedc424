"""The demonstration behind `./run demo`: what the bundled model does, or two small ones trained side by side."""
