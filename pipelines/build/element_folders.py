"""What of an element takes part in a run?

A build in several runs gives diskimage-builder a folder of elements of its own for each: an element that an earlier
run was through with keeps what others read of it, and leaves out the phases that are done; what all builds do last is
left to the last run. The folder is a copy, so a checkout that changes meanwhile does not change a build.
"""
