//! Another kernel in the place of this one (kexec_file_load(2)).

use std::io;

/// Whether this kernel has kexec_file_load(2). Asked with a flag that there is none of, which does nothing.
pub(crate) fn is_there() -> bool {
    const NO_FLAG: libc::c_ulong = 1 << 30;
    // SAFETY: no pointer is followed before the flags are looked at, and the descriptors are none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            -1,
            -1,
            0,
            std::ptr::null::<libc::c_char>(),
            NO_FLAG,
        )
    };
    !(result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS))
}
