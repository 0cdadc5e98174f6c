"""The version of this package; setup.cfg says the same."""

VERSION = "0.1.0"
