"""An agent works on a copy of a repository, and its result is reviewed before anything of it lands."""
