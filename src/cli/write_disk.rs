//! placeholder
use super::args::WriteDiskArgs;
pub fn run(_: &WriteDiskArgs) -> anyhow::Result<()> { Ok(()) }
