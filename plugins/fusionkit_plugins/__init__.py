"""The built-in colour spaces, decoders and metrics."""
