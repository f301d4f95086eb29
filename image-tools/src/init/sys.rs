//! System calls that nix has no words for. The only unsafe code of a node's PID 1.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// linux/loop.h
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
// linux/blkpg.h, linux/fs.h
const BLKPG: libc::Ioctl = 0x1269;
const BLKPG_RESIZE_PARTITION: i32 = 3;
const BLKFLSBUF: libc::Ioctl = 0x1261;
/// `_IOW('f', 16, __u64)` of ext4.
const EXT4_IOC_RESIZE_FS: libc::Ioctl = 0x4008_6610u32 as libc::Ioctl;
// linux/watchdog.h
const WDIOC_KEEPALIVE: libc::Ioctl = 0x8004_5705u32 as libc::Ioctl;
const WDIOC_SETTIMEOUT: libc::Ioctl = 0xc004_5706u32 as libc::Ioctl;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Load a module. One that is loaded already is no error.
pub fn load_module(file: &File, parameters: &CStr) -> io::Result<()> {
    // SAFETY: the descriptor is open and the text ends with a zero for the whole call.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), 0) };
    match checked(result as libc::c_int) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(|_| ()),
    }
}

#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// Make a read-only block device of a file; gives its path. It goes when nobody uses it.
pub fn attach_loop(file: &File) -> io::Result<(String, File)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: takes no argument.
    let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
    let path = format!("/dev/loop{number}");
    let device = OpenOptions::new().read(true).open(&path)?;
    // SAFETY: both structs are plain numbers, for which zero is a value.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = file.as_raw_fd() as u32;
    config.info.flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    // SAFETY: the kernel reads a loop_config, whose layout this is.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) })?;
    Ok((path, device))
}

#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

#[repr(C)]
struct BlkpgArgument {
    op: i32,
    flags: i32,
    length: i32,
    data: *mut BlkpgPartition,
}

/// Tell the kernel a partition's new length, while it is in use. Bytes.
pub fn resize_partition(disk: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    let mut partition = BlkpgPartition {
        start: start as i64,
        length: length as i64,
        number: number as i32,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = BlkpgArgument {
        op: BLKPG_RESIZE_PARTITION,
        flags: 0,
        length: size_of::<BlkpgPartition>() as i32,
        data: &raw mut partition,
    };
    // SAFETY: the kernel reads both structs, which live beyond the call and have its layout.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &raw const argument) }).map(|_| ())
}

/// Grow a mounted ext4 file system to so many of its blocks.
pub fn resize_ext4(mount: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one u64.
    let result = unsafe { libc::ioctl(mount.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const blocks) };
    checked(result).map(|_| ())
}

/// Forget what is cached of a block device, so that the next read is from the medium.
pub fn forget_cached(device: &File) -> io::Result<()> {
    // SAFETY: takes no argument.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), BLKFLSBUF, 0) }).map(|_| ())
}

/// Set the seconds after which the watchdog resets the machine.
pub fn set_watchdog(device: &File, seconds: i32) -> io::Result<()> {
    let mut seconds = seconds;
    // SAFETY: the kernel reads and writes one int.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut seconds) })
        .map(|_| ())
}

pub fn feed_watchdog(device: &File) -> io::Result<()> {
    let mut unused = 0i32;
    // SAFETY: the kernel at most writes one int.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_KEEPALIVE, &raw mut unused) })
        .map(|_| ())
}

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    Reboot,
    /// A Pi's firmware boots the other slot, once.
    TryBoot,
    Poweroff,
}

/// End this machine at once. Returns only if the kernel refuses.
pub fn go_down(how: Down) -> io::Error {
    const MAGIC: [libc::c_int; 2] =
        [libc::LINUX_REBOOT_MAGIC1 as libc::c_int, libc::LINUX_REBOOT_MAGIC2];
    let argument = c"0 tryboot";
    let command = match how {
        Down::Reboot => libc::LINUX_REBOOT_CMD_RESTART,
        Down::TryBoot => libc::LINUX_REBOOT_CMD_RESTART2,
        Down::Poweroff => libc::LINUX_REBOOT_CMD_POWER_OFF,
    };
    // SAFETY: the argument is a text that ends with a zero and lives for ever.
    unsafe {
        libc::syscall(libc::SYS_reboot, MAGIC[0], MAGIC[1], command, argument.as_ptr());
    }
    io::Error::last_os_error()
}

/// Ctrl-Alt-Del becomes SIGINT for PID 1, which then ends in order.
pub fn catch_ctrl_alt_del() {
    // SAFETY: no pointers.
    unsafe {
        libc::reboot(libc::LINUX_REBOOT_CMD_CAD_OFF);
    }
}

/// Set the wall clock.
pub fn set_clock(seconds: i64, micros: i64) -> io::Result<()> {
    // SAFETY: zero is a value of a timeval.
    let mut time: libc::timeval = unsafe { std::mem::zeroed() };
    time.tv_sec = seconds as _;
    time.tv_usec = micros as _;
    // SAFETY: the kernel reads one timeval.
    checked(unsafe { libc::settimeofday(&raw const time, std::ptr::null()) }).map(|_| ())
}

/// Make this descriptor the process's standard input, output and error.
pub fn become_standard(fd: BorrowedFd<'_>) {
    for standard in 0..3 {
        // SAFETY: both are numbers of descriptors.
        unsafe {
            libc::dup2(fd.as_raw_fd(), standard);
        }
    }
}

/// A socket of the kernel's netlink, bound to `groups`.
pub fn netlink(protocol: i32, groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = checked(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zero is a value of a sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups = groups;
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: the kernel reads a sockaddr_nl of that length.
    checked(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
    Ok(socket)
}

/// A socket that hears and says ARP on one interface; reads give up after `wait_ms`.
pub fn arp_socket(interface: u32, wait_ms: i64) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = checked(unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol)) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zero is a value of a sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = interface as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads a sockaddr_ll of that length.
    checked(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
    // SAFETY: zero is a value of a timeval.
    let mut time: libc::timeval = unsafe { std::mem::zeroed() };
    time.tv_usec = (wait_ms * 1000) as _;
    let length = size_of::<libc::timeval>() as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
    // SAFETY: the kernel reads a timeval of that length.
    checked(unsafe { libc::setsockopt(fd, level, name, (&raw const time).cast(), length) })?;
    Ok(socket)
}

/// Flush the file system that a file lies on.
pub fn sync_file_system(file: impl AsFd) -> io::Result<()> {
    // SAFETY: takes an open descriptor.
    checked(unsafe { libc::syncfs(file.as_fd().as_raw_fd()) }).map(|_| ())
}
