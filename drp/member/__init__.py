"""A drp as a member of a partition: one process over many Configures, told by control what to do and by timing when.

`plan` reads what control says, `run` is one Configure to Unconfigure, `process` the whole from start to end.
"""
