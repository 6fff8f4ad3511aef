"""An agent run alone: in a namespace with a name server that records and a scripted endpoint, and nothing else."""
