"""Sends folders of images through the intake: bulk ingestion."""
