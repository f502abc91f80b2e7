//! Who this machine is in a run. The only layer that sees both the services and the operating system.

pub mod elect;
