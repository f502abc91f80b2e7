"""Virtual data center: a stick, a master and its peers as QEMU guests on a bridge of their own.

`tools` and `firmware` find what the host has; `namespace`, `process`, `qmp`, `console` and `machine` run guests; `disks`, `nvram`,
`stick` and `exfat` prepare and check media; `master`, `peer` and `peer_group` know the product; `environment`, `scenarios_*`, `demo`
and `measure` use them. `errors`, `report`, `suite`, `command`, `signals`, `resource`, `polling` and `archive` serve every test
program under tests/ and benches/.
"""
