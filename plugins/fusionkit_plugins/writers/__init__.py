"""Writers of image files."""
