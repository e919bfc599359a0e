"""The records of images, as searches and listings use them."""
