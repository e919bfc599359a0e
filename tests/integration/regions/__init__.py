"""The index of regions: the windows of images that are made, kept in step, and removed."""
