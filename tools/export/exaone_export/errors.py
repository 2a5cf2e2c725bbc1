"""The one exception that carries a message meant for the person who runs the exporter."""


class ExportError(Exception):
    """Something about the input or the machine prevents the export; the text says what, where and what to do."""
