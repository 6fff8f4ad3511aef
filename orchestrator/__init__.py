"""agentrig: from a bare workstation to a coding agent on a local llm, one way through."""

__version__ = "0.1.0"
