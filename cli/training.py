"""`artseek train` and `artseek report`: the commands that need TensorFlow, which is imported where they run."""

import importlib
import sys

import click

from cli.printing.console import print_error


def _run_with_tensorflow(module: str, command: str, arguments: tuple[str, ...]) -> None:
    """Run a command of a module that needs TensorFlow, which is not installed everywhere."""
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        print_error(f"training is not installed here ({error}): pip install 'artseek[training]'")
        sys.exit(1)
    getattr(imported, command).main(list(arguments), prog_name=f"artseek {command}")


@click.command("train", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Fine-tune a network for search, or for the classes of labelled images; needs no running system."""
    _run_with_tensorflow("training.command", "train", arguments)


@click.command("report", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def report(arguments: tuple[str, ...]) -> None:
    """Reproduce the university report's tables from a folder of images; needs no running system."""
    _run_with_tensorflow("reproduction.command", "report", arguments)
