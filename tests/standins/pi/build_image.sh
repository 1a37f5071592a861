#!/bin/bash
# Builds a Debian arm64 system for qemu-system-aarch64: a root file system as an ext4 image, a kernel and an initrd.
# usage: build_image.sh OUTDIR [SUITE] [KERNEL_PACKAGE]      (as root; trixie linux-image-arm64-16k has 16 KiB pages)
# needs: mmdebstrap arch-test qemu-user-static e2fsprogs openssh-client
set -euo pipefail
out=$1 suite=${2:-bookworm} kernel=${3:-linux-image-arm64}
mkdir -p "$out"
cd "$out"

# F in the registration: the interpreter is opened now, so that it is found in the chroot too
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf > /proc/sys/fs/binfmt_misc/register

[ -f id_pi ] || ssh-keygen -q -t ed25519 -N '' -f id_pi
[ -f host_key ] || ssh-keygen -q -t ed25519 -N '' -f host_key

# Debian's arm64 kernel has its disk drivers as modules: an initrd with just these stays near 6 MB
modules='virtio_pci virtio_blk virtio_net ext4 crc32c_generic'
rm -rf rootfs
mmdebstrap --architectures=arm64 --variant=minbase --mode=root --format=directory \
  --include="$kernel",systemd-sysv,udev,dbus,openssh-server,iproute2,procps \
  --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"
    printf "MODULES=list\nCOMPRESS=gzip\n" > "$1/etc/initramfs-tools/conf.d/pi"
    printf "%s\n" '"$modules"' > "$1/etc/initramfs-tools/modules"' \
  --customize-hook='chroot "$1" useradd -m -s /bin/bash pi
    mkdir -p "$1/home/pi/.ssh"
    cp id_pi.pub "$1/home/pi/.ssh/authorized_keys"
    chroot "$1" chown -R pi:pi /home/pi/.ssh
    chmod 700 "$1/home/pi/.ssh"
    rm -f "$1"/etc/ssh/ssh_host_*
    cp host_key "$1/etc/ssh/ssh_host_ed25519_key"
    cp host_key.pub "$1/etc/ssh/ssh_host_ed25519_key.pub"
    printf "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\n" > "$1/etc/ssh/sshd_config.d/pi.conf"' \
  --customize-hook='printf "[Match]\nName=e*\n[Network]\nDHCP=yes\n" > "$1/etc/systemd/network/e.network"
    chroot "$1" systemctl enable systemd-networkd ssh
    chroot "$1" systemctl mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer' \
  --customize-hook='echo board > "$1/etc/hostname"
    echo "127.0.1.1 board" >> "$1/etc/hosts"
    : > "$1/etc/fstab"
    rm -rf "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*' \
  "$suite" rootfs

cp rootfs/boot/vmlinuz-* vmlinuz
cp rootfs/boot/initrd.img-* initrd.img
rm -f root.ext4.part
truncate -s 2G root.ext4.part
mkfs.ext4 -q -F -E lazy_itable_init=1 -d rootfs root.ext4.part
rm -rf rootfs
mv root.ext4.part root.ext4   # last: an image that is there is whole
