#!/bin/bash
# Runs inside the new root tree at the end of KIWI's prepare step. What a site adds comes later (tools/ramroot.sh).
set -euo pipefail

# Of the time of the package installation.
rm -f /etc/dracut.conf.d/00-build.conf /boot/initrd*

# A node has no disk that its system lies on.
: >/etc/fstab
systemctl set-default multi-user.target

# The port that the node booted from keeps the address that it has, and its lease is renewed.
mkdir -p /etc/systemd/network
cat >/etc/systemd/network/80-recon.network <<'EOF'
[Match]
Type=ether
[Network]
DHCP=yes
KeepConfiguration=yes
[DHCPv4]
ClientIdentifier=mac
EOF
systemctl enable systemd-networkd.service

# What a package manager keeps for its next run stays on the machine that builds.
rm -rf /var/cache/apt /var/lib/apt/lists /var/log/apt /var/log/dpkg.log /usr/share/doc /usr/share/man
mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial
