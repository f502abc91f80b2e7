//! Integration tests of the library and the binary, in one program.

mod help;
mod layering;
mod lifecycle;
mod packets;
mod units;
