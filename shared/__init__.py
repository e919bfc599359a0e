"""What several services need: settings, stores, hashing, images, messages. Knows no service."""
