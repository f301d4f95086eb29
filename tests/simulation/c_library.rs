//! Answers the C library's `getrandom` and `clock_gettime` from the run's seed and clock. The
//! executable's own symbols come before those of the library, also for what is linked into it.
#![allow(unsafe_code, reason = "symbols of the C library are defined here")]

use bramble_simulation::fate;
use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

// SAFETY: the name and signature are those of getrandom(2) in the C library, whose contract it
// keeps: `buffer` holds `length` bytes that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if length > 0 {
        // SAFETY: the caller gives a buffer of `length` bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        if fate::fill(bytes) {
            return ssize_t::try_from(length).unwrap_or(ssize_t::MAX);
        }
    }
    // SAFETY: the very call that was asked for.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
    ssize_t::try_from(got).unwrap_or(-1)
}

// SAFETY: the name and signature are those of clock_gettime(2) in the C library, whose contract it
// keeps: `time` may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let wall = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let monotonic = matches!(
        clock,
        libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_MONOTONIC_RAW
            | libc::CLOCK_BOOTTIME
    );
    if (wall || monotonic)
        && let Some(reading) = fate::read(wall)
    {
        let seconds = libc::time_t::try_from(reading.as_secs()).unwrap_or(libc::time_t::MAX);
        // SAFETY: the caller gives a place to write to.
        unsafe {
            (*time).tv_sec = seconds;
            (*time).tv_nsec = c_long::from(reading.subsec_nanos() as i32);
        }
        return 0;
    }
    // SAFETY: the very call that was asked for.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    c_int::try_from(result).unwrap_or(-1)
}
