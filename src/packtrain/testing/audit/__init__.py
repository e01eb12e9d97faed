"""Independent checks of what a service or a run left behind: they read files and believe nobody.

Nothing of the code that wrote those files is used here. An audit returns what is wrong, a sentence each; no
sentence means that nothing was found.
"""
