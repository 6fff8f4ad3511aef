"""What must hold on a host, as testinfra specs: run by verify in a child process, and by Molecule.

They read what they expect from the manifest in the file that ``AGENTRIG_MANIFEST`` names.
"""
