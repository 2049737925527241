"""`fusionkit serve`: fuse, compare and inspect in a browser; needs the extra `serve`."""
