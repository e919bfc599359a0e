"""What is known of each picture: its record, which belongs to the collection and not to a model."""
