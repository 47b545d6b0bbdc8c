//! File systems on which two files can share what they have in common.

use std::fs::File;

/// The unit in which the file system of a file shares its extents with other files, in bytes. None:
/// it does not, as far as we know.
#[cfg(target_os = "linux")]
pub(super) fn unit(file: &File) -> Option<usize> {
    /// `XFS_SUPER_MAGIC` and `BTRFS_SUPER_MAGIC` of linux/magic.h.
    const SHARING: [u32; 2] = [0x5846_5342, 0x9123_683e];
    /// Padding to larger blocks would cost more than is gained.
    const MOST: usize = 16 << 10;
    let stat = rustix::fs::fstatfs(file).ok()?;
    let unit = usize::try_from(stat.f_bsize).ok()?;
    (SHARING.contains(&(stat.f_type as u32)) && unit.is_power_of_two() && unit <= MOST).then_some(unit)
}

/// Other systems share whole files at most.
#[cfg(not(target_os = "linux"))]
pub(super) fn unit(_: &File) -> Option<usize> {
    None
}
