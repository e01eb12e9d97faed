"""Independent audits of a finished run and of a service directory.

They read files only and share no code with the writers of those files. An audit returns its findings, one sentence
each; an empty list means that nothing is wrong.
"""
