"""The report's sections, made by running: each table beside the report's own figures, and why they differ."""

from reproduction.chapters.cleaning import cleaning_section
from reproduction.chapters.indexes import index_section, trained_index_section
from reproduction.chapters.scans import scan_section, trained_scan_section
from reproduction.chapters.trainings import training_section

__all__ = [
    "cleaning_section",
    "index_section",
    "scan_section",
    "trained_index_section",
    "trained_scan_section",
    "training_section",
]
