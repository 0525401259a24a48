"""Commands that move the data of other caches to mmapcache.

``python -m mmapcache.migrate salt SOURCE DEST`` moves the banks of Salt's drivers ``localfs`` and
``mmap_cache``; ``python -m mmapcache.migrate diskcache DIRECTORY DEST`` moves a directory of
``diskcache``. Both only read the source, may run while it is in use, and may be run again.
"""
