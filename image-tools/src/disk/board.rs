//! The machines images are made for, and what each needs of a distribution.

use clap::ValueEnum;

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Board {
    /// Raspberry Pi 3, 4, 400, Zero 2 W (Pi 5 with --pi-files)
    Pi,
    /// ARM machines and virtual machines with UEFI
    Arm64Uefi,
    /// PCs and virtual machines, by BIOS or UEFI
    X86,
}

/// Loaded before there is a root: what its file systems need.
const FILE_SYSTEMS: &[&str] =
    &["nls_cp437", "nls_ascii", "nls_utf8", "vfat", "ext4", "loop", "squashfs"];
/// Then, until the node's disk is there, what disks and their partitions need.
const STORAGE: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "ahci",
    "ata_piix",
    "nvme",
    "mptspi",
    "xhci_pci",
    "ehci_pci",
    "ohci_pci",
    "uhci_hcd",
    "usb_storage",
    "uas",
    "sd_mod",
    "sr_mod",
    "mmc_block",
    "sdhci_pci",
    "sdhci_acpi",
];
/// The Pi's card reader, USB, and what these wait for.
const STORAGE_PI: &[&str] = &[
    "sdhci_iproc",
    "bcm2835",
    "bcm2835_sdhost",
    "reset_raspberrypi",
    "regulator_fixed",
    "fixed",
    "gpio_regulator",
    "phy_generic",
    "dwc2",
    "xhci_pci",
    "usb_storage",
    "uas",
    "sd_mod",
];

/// Loaded once the root is there, whatever the hardware is: what containers and their networks are
/// made of.
const CONTAINERS: &[&str] = &[
    "overlay",
    "veth",
    "bridge",
    "vxlan",
    "af_packet",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_ct",
    "nft_fib_inet",
    "nft_reject_inet",
    "nft_limit",
    "nft_log",
    "nft_numgen",
    "nft_hash",
];
/// In the image, loaded when a device or a program asks for them.
const ON_DEMAND: &[&str] = &[
    // Containers
    "macvlan",
    "tun",
    "fuse",
    // Networks by USB
    "usbnet",
    "cdc_ether",
    "cdc_ncm",
    "rndis_host",
    "smsc95xx",
    "smsc",
    "lan78xx",
    "microchip",
    "r8152",
    "asix",
    "ax88179_178a",
    // Devices for apps
    "usbserial",
    "cp210x",
    "ftdi_sio",
    "ch341",
    "pl2303",
    "cdc_acm",
    "option",
    "i2c_dev",
    "spidev",
    "usbhid",
    "hid_generic",
    "evdev",
    "button",
    // Watching over the machine
    "softdog",
    "virtio_rng",
    "virtio_balloon",
];
const ON_DEMAND_PC: &[&str] = &[
    "virtio_net",
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "r8169",
    "realtek",
    "vmxnet3",
    "pcnet32",
    "i2c_i801",
    "i2c_piix4",
    "iTCO_wdt",
    "sp5100_tco",
    "i6300esb",
    "coretemp",
    "k10temp",
    "acpi_power_meter",
    "drivetemp",
    "rtc_cmos",
    "xhci_plat_hcd",
];
const ON_DEMAND_PI: &[&str] = &[
    "bcmgenet",
    "broadcom",
    "bcm_phy_lib",
    "brcmfmac",
    "i2c_bcm2835",
    "i2c_brcmstb",
    "spi_bcm2835",
    "pwm_bcm2835",
    "bcm2835_wdt",
    "bcm2835_thermal",
    "bcm2711_thermal",
    "bcm2835_rng",
    "iproc_rng200",
    "raspberrypi_hwmon",
    "raspberrypi_cpufreq",
    "leds_gpio",
    "mdio_bcm_unimac",
    "drivetemp",
    "virtio_net",
    "rtc_ds1307",
    "macb",
    "rp1",
];

/// Programs a node runs, from packages; the libraries they need are found.
pub struct Program {
    pub package: &'static str,
    /// Where it lies in its package and in the root; `bin` and `sbin` count as below `usr`.
    pub path: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program { package: "nftables", path: "usr/sbin/nft" },
    Program { package: "e2fsprogs", path: "usr/sbin/e2fsck" },
    Program { package: "dropbear-bin", path: "usr/sbin/dropbear" },
    Program { package: "dropbear-bin", path: "usr/bin/dropbearkey" },
];
const PROGRAMS_PI: &[Program] =
    &[Program { package: "wpasupplicant", path: "usr/sbin/wpa_supplicant" }];

impl Board {
    /// As it is written in `release.toml` and update files.
    pub fn name(self) -> &'static str {
        match self {
            Board::Pi => "pi",
            Board::Arm64Uefi => "arm64-uefi",
            Board::X86 => "x86",
        }
    }

    /// The distribution's word for its processor.
    pub fn architecture(self) -> &'static str {
        if self == Board::X86 { "amd64" } else { "arm64" }
    }

    /// Where its programs come from, when this project's own build made them.
    pub fn target(self) -> &'static str {
        if self == Board::X86 { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" }
    }

    /// Its number in programs' files.
    pub fn machine(self) -> u64 {
        if self == Board::X86 { super::elf::MACHINE_X86_64 } else { super::elf::MACHINE_AARCH64 }
    }

    /// The package that names the newest kernel.
    pub fn kernel(self) -> &'static str {
        if self == Board::X86 { "linux-image-amd64" } else { "linux-image-arm64" }
    }

    pub fn programs(self) -> impl Iterator<Item = &'static Program> {
        let more = if self == Board::Pi { PROGRAMS_PI } else { &[] };
        PROGRAMS.iter().chain(more)
    }

    /// Packages of firmware and boot loaders; none of them has others under it that matter.
    pub fn firmware(self) -> &'static [&'static str] {
        match self {
            Board::Pi => &["raspi-firmware", "firmware-brcm80211", "wireless-regdb"],
            Board::Arm64Uefi => &["grub-efi-arm64-bin"],
            Board::X86 => &["grub-pc-bin", "grub-efi-amd64-bin"],
        }
    }

    pub fn file_system_modules(self) -> &'static [&'static str] {
        FILE_SYSTEMS
    }

    pub fn storage_modules(self) -> &'static [&'static str] {
        if self == Board::Pi { STORAGE_PI } else { STORAGE }
    }

    /// Loaded by name in the running system.
    pub fn loaded_modules(self) -> &'static [&'static str] {
        CONTAINERS
    }

    /// All that are in the image.
    pub fn modules(self) -> impl Iterator<Item = &'static str> {
        let own = if self == Board::Pi { ON_DEMAND_PI } else { ON_DEMAND_PC };
        let lists = [FILE_SYSTEMS, self.storage_modules(), CONTAINERS, ON_DEMAND, own];
        lists.into_iter().flatten().copied()
    }

    /// Kernel arguments besides the slot; the last console is the one a first process writes to.
    pub fn arguments(self) -> &'static str {
        match self {
            Board::Pi => {
                "console=tty1 console=ttyS1,115200 cgroup_enable=memory panic=10 ro quiet loglevel=4"
            }
            Board::Arm64Uefi => "console=tty0 console=ttyAMA0 panic=10 ro quiet loglevel=4",
            Board::X86 => "console=tty0 console=ttyS0,115200 panic=10 ro quiet loglevel=4",
        }
    }
}
