"""Video: streams of frames that belong together by their times, fused shot by shot; needs the extra `video` (PyAV)."""
