"""Virtual data center: a stick, a master and its peers as QEMU guests on a bridge of their own.

Each module answers one question; `ARCHITECTURE` of the harness in three lines:
`tools`/`firmware` say what the host has, `namespace`/`process`/`qmp`/`console`/`machine` run guests,
`disks`/`nvram`/`stick`/`exfat` prepare and judge media, `master`/`peer` know the product, `scenarios`/`demo`/`measure` use it.
"""
