#!/bin/bash
# Puts the recon binary into the initrd, with the guard that makes internal disks read-only and the unit of a peer that
# does its whole job there. Called by dracut, which provides inst_*, instmods and the variables used here.

check() {
    require_binaries /usr/bin/recon || return 1
    return 0
}

depends() {
    echo systemd
    return 0
}

installkernel() {
    # Talking to the BMC, reading the medium, and the drivers that no hardware probe of the build host would name.
    hostonly='' instmods ipmi_msghandler ipmi_devintf ipmi_si ipmi_ssif exfat loop squashfs isofs overlay \
        nvme usb-storage uas virtio_pci virtio_blk virtio_scsi virtio_net
    # What the inventory reads: UEFI variables (systemd mounts them where the module is there) and TPMs.
    hostonly='' instmods efivarfs '=drivers/char/tpm'
    hostonly='' instmods '=drivers/net/ethernet' '=drivers/scsi' '=drivers/nvme/host'

    # A tenth of the initrd for one family of cards, which fall back to the firmware in their own flash; the full image has it.
    # shellcheck disable=SC2154 # comes from dracut
    rm -rf "$initdir/usr/lib/firmware/netronome" "$initdir/lib/firmware/netronome"
}

install() {
    inst_simple /usr/bin/recon
    # Disks behind RAID controllers are asked through it.
    inst_multiple -o smartctl
    inst_simple /usr/lib/udev/rules.d/01-recon-guard.rules
    inst_simple /usr/lib/udev/rules.d/59-recon-medium.rules
    inst_simple /etc/modprobe.d/recon.conf
    inst_simple /etc/modprobe.d/recon-disks.conf
    inst_simple /etc/modules-load.d/recon.conf
    # shellcheck disable=SC2154 # both come from dracut
    inst_simple "$moddir/recon-peer-generator" /usr/lib/systemd/system-generators/recon-peer-generator
    # shellcheck disable=SC2154
    inst_simple /usr/lib/systemd/system/recon-peer.service "$systemdsystemunitdir/recon-peer.service"

    # Generators that would look for a root, a swap or a hibernation image on the disks of the machine, and some that only
    # cost time here.
    local name
    for name in systemd-gpt-auto-generator systemd-hibernate-resume-generator systemd-bless-boot-generator \
        systemd-ssh-generator systemd-tpm2-generator systemd-cryptsetup-generator systemd-veritysetup-generator \
        systemd-integritysetup-generator systemd-system-update-generator systemd-factory-reset-generator; do
        # shellcheck disable=SC2154
        rm -f "$initdir/usr/lib/systemd/system-generators/$name"
    done
}
