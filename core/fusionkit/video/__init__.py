"""Video: frames of several streams, matched by their times and fused shot by shot. Needs the extra `video` (PyAV)."""
