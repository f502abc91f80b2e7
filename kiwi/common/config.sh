#!/bin/bash
# Runs inside the new root tree at the end of KIWI's prepare step, the same script for every recipe.
# It only removes and disables; everything that is added is a package or a file of the overlay.
set -euo pipefail

# Set by post_bootstrap.sh for the time of the package installation.
rm -f /etc/dracut.conf.d/00-build.conf

# Nobody logs in with a password, and no identity is baked into the image.
usermod --password '*' root
rm -f /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /var/lib/dbus/machine-id /var/lib/systemd/random-seed
: >/etc/machine-id
printf 'recon\n' >/etc/hostname

# Units of ours that start by themselves; the consoles come in through getty.target.
systemctl enable recon.service recon-ssh.service
systemctl set-default multi-user.target

# Nothing else may listen, write to firmware variables, touch links, or look for file systems to mount.
for unit in \
    ssh.service ssh.socket sshd.service sshd.socket smartd.service smartmontools.service \
    systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    NetworkManager.service NetworkManager-wait-online.service wicked.service wickedd.service \
    systemd-pstore.service systemd-hibernate-clear.service systemd-boot-random-seed.service \
    systemd-timesyncd.service systemd-firstboot.service systemd-sysusers.service systemd-update-done.service \
    systemd-journal-catalog-update.service systemd-hwdb-update.service ldconfig.service systemd-machine-id-commit.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    man-db.timer logrotate.timer; do
    # By link, not by systemctl: an alias that a package left under the same name is replaced as well.
    ln -sfn /dev/null "/etc/systemd/system/$unit"
done
mkdir -p /etc/systemd/system-generators
for generator in systemd-gpt-auto-generator systemd-hibernate-resume-generator systemd-ssh-generator systemd-tpm2-generator \
    systemd-system-update-generator systemd-rc-local-generator systemd-sysv-generator; do
    ln -sf /dev/null "/etc/systemd/system-generators/$generator"
done

# remove_disk_modules MODULES LIST: takes out what LIST (modprobe.d) says is never to be loaded, and whatever else assembles, maps or
# exports disks. dracut's live root needs none of it: with rd.live.overlay.overlayfs its writes go to an overlay in memory.
remove_disk_modules() {
    local word module command
    rm -rf "${1:?}kernel/drivers/md" "${1:?}kernel/drivers/target"
    while read -r word module command; do
        [ "$word $command" = 'install /bin/false' ] || continue
        # A file's name has dashes or underscores.
        find "$1" -name "${module//_/[-_]}.ko*" -delete
    done <"$2"
}

# Kernel modules are stored plain: solid compression of initrd and root image packs them better than one by one,
# and a peer under load unpacks them once instead of module by module.
shopt -s nullglob globstar
for modules in /lib/modules/*/; do
    version=$(basename "$modules")
    for file in "$modules"**/*.ko.xz; do xz --decompress "$file"; done
    for file in "$modules"**/*.ko.zst; do zstd --quiet --decompress --rm "$file"; done
    # Parts that no server needs: pictures, sound, radio, sensors of laptops, card readers, external PCIe.
    for part in sound drivers/{gpu,media,bluetooth,staging,pcmcia,memstick,firewire,thunderbolt,iio,gnss,comedi,accel,isdn,ufs} \
        drivers/net/{wireless,wwan,ieee802154,can,hamradio,arcnet,fddi,plip} drivers/net/ethernet/mellanox/mlxsw \
        drivers/net/ethernet/marvell/prestera drivers/net/dsa net/{wireless,mac80211,bluetooth,nfc,ieee802154,mac802154,can,ax25}; do
        rm -rf "${modules:?}kernel/$part"
    done
    # Keyboards of servers and remote consoles are plain ones; game pads and tablets stay out.
    [ ! -d "${modules}kernel/drivers/hid" ] || find "${modules}kernel/drivers/hid" -name '*.ko' ! -path '*/usbhid/*' ! -name hid.ko ! -name 'hid-generic.ko' ! -name 'hid-hyperv.ko' \
        ! -name 'hid-logitech*' ! -name 'hid-microsoft.ko' ! -name 'hid-lenovo.ko' ! -name 'hid-apple.ko' ! -name 'hid-cherry.ko' -delete
    remove_disk_modules "$modules" /etc/modprobe.d/recon-disks.conf
    depmod "$version"
done

# SUSE's kmod refuses the modules of kernel-default-extra and -optional unless this says otherwise, and keeps away the driver of
# BMCs that offer their LAN over USB as RNDIS. Only where such files exist: other kmods do not know the word.
for file in /lib/modprobe.d/*.conf /usr/lib/modprobe.d/*.conf /etc/modprobe.d/*.conf; do
    sed -i --follow-symlinks -e 's/^allow_unsupported_modules .*/allow_unsupported_modules 1/' -e '/^blacklist rndis_host$/d' "$file"
done

# What brings up the network of the initrd for a live boot. dracut takes wicked as soon as some package brings it, and livenet does
# not work with that; only a module that is named goes before dracut's own choice. Debian's is network-legacy by itself.
case $(. /etc/os-release && echo "$ID-${VERSION_ID:-}") in
opensuse-leap-15.*) network='network-legacy' ;;
opensuse-leap-16.*) network='network-manager' ;;
opensuse-tumbleweed*) network='systemd-networkd' ;;
*) network='' ;;
esac
[ -z "$network" ] || printf 'add_dracutmodules+=" %s "\n' "$network" >/etc/dracut.conf.d/91-recon-network.conf

# dracut 106 calls a function in this hook before it is loaded; the complaint would be the first line on every screen.
for hook in /usr/lib/dracut/modules.d/*livenet/parse-livenet.sh; do
    sed -i '/^get_url_handler$/d' "$hook"
done

# dracut asks for the device mapper, which is not there, and would say so on every console.
for hook in /usr/lib/dracut/modules.d/*dm/dm-pre-udev.sh; do
    sed -i '/modprobe/d' "$hook"
done

# Firmware: what is for graphics, sound, radio, television and switch ASICs goes; NICs and storage controllers stay.
for tree in /lib/firmware /usr/lib/firmware; do
    [ -d "$tree" ] || continue
    for part in amdgpu radeon i915 xe nvidia mediatek ath10k ath11k ath12k iwlwifi rtw88 rtw89 rtlwifi rtl_bt brcm cypress \
        dvb-* v4l-* vsc ti-connectivity libertas mrvl/prestera mellanox/mlxsw_* qcom vpu meson amphion cnm rockchip powervr \
        cirrus dsp56k ess korg sb16 yamaha emu intel/vsc intel/ipu* intel/ish intel/ibt-* intel/avs intel/catpt intel/sof* \
        netronome/flower netronome/bpf netronome/nic-sriov intel/vpu nxp ti wfx wsm_22.bin vntwusb.fw usbdux*; do
        # shellcheck disable=SC2086 # the entries are patterns
        rm -rf "${tree:?}"/$part
    done
    # Links that now lead nowhere.
    find "$tree" -xtype l -delete
done

# Signed boot programs for machines with Secure Boot. Their own folders stay out of the image, being large and needed for the ISO only.
mkdir -p /usr/lib/recon/loaders
first_of() {
    local target=$1 file
    shift
    for file in "$@"; do
        [ ! -f "$file" ] || { cp "$file" "/usr/lib/recon/loaders/$target"; return 0; }
    done
    echo "no $target: machines with Secure Boot will not boot from the network" >&2
}
first_of shimx64.efi /usr/lib/shim/shimx64.efi.signed /usr/share/efi/x86_64/shim.efi
first_of grubnetx64.efi /usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed /usr/share/efi/x86_64/grub.efi

# Files that only the package build left behind.
rm -rf /var/cache/apt/archives /var/lib/apt/lists /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale
# KIWI looks for change logs there.
mkdir -p /usr/share/doc
rm -f /boot/initrd* /boot/*.old /var/log/*.log /var/log/apt/*
