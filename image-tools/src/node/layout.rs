//! Numbers and names of a node's disk: MBR, a partition to configure, two slots, data.

use super::Slot;

/// Bytes of a sector, which MBR and FAT count in.
pub const SECTOR_BYTES: u64 = 512;
/// Partitions begin at multiples of this: an SD card's erase block.
pub const ALIGN_BYTES: u64 = 4 << 20;

/// Number of the partition a user sees on a PC, counted from 1 as Linux and GRUB count.
pub const CONFIG_PARTITION: u32 = 1;
pub const SLOT_A_PARTITION: u32 = 2;
pub const SLOT_B_PARTITION: u32 = 3;
pub const DATA_PARTITION: u32 = 4;

/// MBR type bytes: FAT32 with LBA, Linux.
pub const TYPE_FAT32: u8 = 0x0c;
pub const TYPE_LINUX: u8 = 0x83;

/// Default size of the configuration partition. Bytes.
pub const CONFIG_BYTES: u64 = 64 << 20;
/// Default size of each slot. Bytes.
pub const SLOT_BYTES: u64 = 112 << 20;
/// Size of the data partition in an image, before the first boot grows it. Bytes.
pub const DATA_BYTES: u64 = 32 << 20;

/// Volume labels. A slot's file system may carry either slot's: an update does not know which it
/// will be written to, so slots are found by their number, never by their label.
pub const CONFIG_LABEL: &str = "BRAMBLE";
pub const SLOT_A_LABEL: &str = "BRAMBLE-A";
pub const SLOT_B_LABEL: &str = "BRAMBLE-B";
pub const DATA_LABEL: &str = "BRAMBLE-DATA";

/// Files on the configuration partition.
pub const CONFIG_FILE: &str = "bramble.toml";
pub const STATUS_FILE: &str = "status.txt";
pub const FOUNDING_FILE: &str = "founding.bramble";
pub const GRUB_CONFIG_FILE: &str = "boot/grub/grub.cfg";
pub const GRUB_ENVIRONMENT_FILE: &str = "boot/grub/grubenv";
pub const AUTOBOOT_FILE: &str = "autoboot.txt";

/// Files in a slot.
pub const KERNEL_FILE: &str = "vmlinuz";
pub const INITRAMFS_FILE: &str = "initramfs";
pub const ROOT_FILE: &str = "root.squashfs";
pub const RELEASE_FILE: &str = "release.toml";

/// Where a node mounts its partitions, the running slot read-only.
pub const BOOT_DIR: &str = "/boot";
pub const SLOT_DIR: &str = "/run/slot";
pub const DATA_DIR: &str = "/var/lib/bramble";
/// Below the data directory: image archives for the first start, updates on their way to a slot,
/// PID 1's own.
pub const PRELOAD_DIR: &str = "preload";
pub const UPDATE_DIR: &str = "os-update";
pub const NODE_DIR: &str = "node";

/// PID 1's socket; it is root's alone.
pub const SOCKET: &str = "/run/bramble-init.sock";

/// In the initramfs: `bramble-init`, and the modules it loads, one path a line, each after what
/// it needs.
pub const INIT_FILE: &str = "init";
pub const MODULES_FILE: &str = "etc/modules-load";
/// A line of that file: what follows is loaded until the disk is there, and no further.
pub const MODULES_UNTIL_DISK: &str = "# until the disk is there";
/// In the root: the same program, what it starts, and modules to load there by name, one a line.
pub const ROOT_INIT: &str = "/sbin/bramble-init";
pub const BRAMBLE: &str = "/usr/bin/bramble";
pub const BUSYBOX: &str = "/bin/busybox";
pub const ROOT_MODULES_FILE: &str = "/etc/modules";

/// Kernel argument that names the running slot: `bramble.slot=a`.
pub const SLOT_ARGUMENT: &str = "bramble.slot";

/// Where a slot lies.
pub fn slot_partition(slot: Slot) -> u32 {
    match slot {
        Slot::A => SLOT_A_PARTITION,
        Slot::B => SLOT_B_PARTITION,
    }
}
